// A rollout whose activations are still on the tape: while the adapter has not changed, they are the training forward.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "head.h"
#include "packed_batch.h"

namespace vg {

struct KeptPass {
    bool valid = false;
    uint64_t adapter = 0;  // Lora::fingerprint()
    double temperature = 0;

    std::vector<int32_t> prompt_tokens, prompt_lengths;
    int64_t n_generations = 0, max_length = 0;
    std::vector<int32_t> tokens;   // [N, L]
    std::vector<int32_t> lengths;  // [N]

    // Where a token is. Rows are on the tape; cells are those of the tape's cache.
    std::vector<int32_t> prompt_rows, prompt_cells;  // [B] of its first token; the others follow
    std::vector<int32_t> rows;                       // [N, L], -1: not computed
    std::vector<int32_t> completion_cells;           // [N] of its first token; the others follow
    int64_t n_rows = 0, n_cells = 0;

    // What the head found, a column for each row of the tape that it saw.
    std::vector<int32_t> columns;       // [rows], -1: not seen
    std::vector<double> lse, entropy;   // [columns]
    std::vector<float> expectation;     // [columns, D]
    std::vector<double> target_logits;  // [N, L] of the token that came, over the temperature

    PackedInput input() const {
        return {prompt_tokens.data(),
                prompt_lengths.data(),
                int64_t(prompt_lengths.size()),
                n_generations,
                tokens.data(),
                lengths.data(),
                max_length};
    }
    int64_t row_of(const TokenOrigin & t) const {
        return t.completion < 0 ? prompt_rows[std::size_t(t.prompt)] + t.index
                                : rows[std::size_t(t.completion * max_length + t.index)];
    }
    int64_t cell_of(const TokenOrigin & t) const {
        return (t.completion < 0 ? prompt_cells[std::size_t(t.prompt)] : completion_cells[std::size_t(t.completion)]) +
               t.index;
    }
};

// The prompt of `kept` with the same tokens and the same completions as prompt b of `input`, -1 where there is none.
// guess: where to look first.
int64_t find_kept(const KeptPass & kept, const PackedInput & input, int64_t b, int64_t guess);

// What a training pass over `batch` would have found.
struct Recalled {
    std::vector<int32_t> rows, cells;  // [T] of the batch's tokens
    Head::Sweep sweep;
};
// batch: packed prompts of `input`; its keys become cells. prompts [B]: which prompt of `kept` each of the input's is.
Recalled recall(const KeptPass & kept, const PackedInput & input, const std::vector<int64_t> & prompts,
                PackedBatch & batch, int64_t D);

}  // namespace vg
