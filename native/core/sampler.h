// Choosing the next token: temperature, top-k, top-p in the order of Hugging Face's generate, with counted random
// numbers.
#pragma once

#include <cstdint>

#include "head.h"

namespace vg {

struct SamplerOptions {
    double temperature = 1;  // 0: greedy
    int32_t top_k = 0;       // 0: all
    double top_p = 1;        // 1: all
};

// One position's logits with what Head's sweep found: its sums for parts of `part_rows` tokens spare reading all of V.
struct SampledRow {
    const float * logits;  // [V]
    int64_t n_vocab;       // V
    const PartialSum * parts;
    int n_parts;
    int64_t part_rows;
};

// u: uniform in [0, 1). The lowest index wins ties.
int32_t sample(const SampledRow & row, const SamplerOptions & options, double u);

}  // namespace vg
