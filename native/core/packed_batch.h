// [prompt | completion 1 | … | completion G] for each prompt, as one stream of tokens: the prompt is computed once.
#pragma once

#include <cstdint>
#include <vector>

#include "attention_plan.h"

namespace vg {

// Borrowed arrays of a call, as src/native/addon.ts describes them.
struct PackedInput {
    const int32_t * prompt_tokens = nullptr;   // [sum of P]
    const int32_t * prompt_lengths = nullptr;  // [B]
    int64_t n_prompts = 0;                     // B
    int64_t n_generations = 0;                 // G
    const int32_t * tokens = nullptr;          // [N, L]
    const int32_t * lengths = nullptr;         // [N]
    int64_t max_length = 0;                    // L

    const int32_t * prompt(int64_t b) const;  // its first token
};

// One completion token whose log-probability is wanted: head row `row` predicts `token`.
struct HeadTarget {
    int32_t row;
    int32_t token;
    int64_t slot;  // n·L + t, its place in the caller's [N, L] arrays
};

// Token `index` of a prompt (completion -1) or of a completion, counted over the whole input.
struct TokenOrigin {
    int32_t prompt;
    int32_t completion;
    int32_t index;
};

struct PackedBatch {
    std::vector<int32_t> tokens;       // [T]
    std::vector<TokenOrigin> origins;  // [T]
    std::vector<int32_t> positions;    // [T]
    AttentionPlan plan;
    std::vector<int32_t> head_rows;  // [R] stream indices that predict something
    std::vector<HeadTarget> targets;
};

// Packs these prompts of the input. Prompts whose completions are all empty are left out.
PackedBatch pack(const PackedInput & input, const std::vector<int64_t> & prompts, int n_head);

// Splits prompts into runs of at most `budget` stream tokens, or one prompt.
std::vector<std::vector<int64_t>> split_prompts(const PackedInput & input, const std::vector<int64_t> & prompts,
                                                int64_t budget);

}  // namespace vg
