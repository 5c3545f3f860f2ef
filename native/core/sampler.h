// Choosing the next token: temperature, top-k, top-p in the order of Hugging Face's generate, with counted random
// numbers.
#pragma once

#include <cstdint>

namespace vg {

struct SamplerOptions {
    double temperature = 1;  // 0: greedy
    int32_t top_k = 0;       // 0: all
    double top_p = 1;        // 1: all
};

struct Sampled {
    int32_t token;
    double log_prob;  // log softmax(logits / temperature)[token] over the whole vocabulary; temperature 0 counts as 1
};

// What all samples of one row share, so that G first tokens of a prompt cost one sweep.
struct RowStats {
    float max;
    double sum;  // Σ e^((logit - max) / temperature)
};
RowStats row_stats(const float * logits, int64_t n_vocab, double temperature);

// u: uniform in [0, 1). The lowest index wins ties.
Sampled sample(const float * logits, int64_t n_vocab, const RowStats & stats, const SamplerOptions & options, double u);

}  // namespace vg
