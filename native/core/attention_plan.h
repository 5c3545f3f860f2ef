// Which token sees which, for a stream of tokens that packs prompts and their completions, or for one decoding step.
//
// A query's score row has one column per position: columns [0, P) are its prompt's keys, columns [P, …) its own
// completion's. A token at position p therefore sees columns [0, p], and a layer with a sliding window of w
// tokens the columns [max(0, p - w + 1), p]. So no mask exists anywhere.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace vg {

// Query tokens [q, q + n_q) against keys [k, k + n_k), whose scores stand in columns [col, col + n_k). No query stands
// before `position`; this is no property of the queries at hand, but of all that could be in such a block, so that a
// query's sums are cut the same way in decoding and in training.
struct AttentionBlock {
    int64_t q, n_q;
    int64_t k, n_k;
    int64_t col;
    int32_t position;

    // Without the keys that a window (0: none) hides from all queries; one key stays at least.
    AttentionBlock within(int window) const {
        AttentionBlock block = *this;
        if (window > 0) {
            const int64_t hidden = std::clamp(position - window + 1 - col, int64_t{0}, n_k - 1);
            block.k += hidden;
            block.n_k -= hidden;
            block.col += hidden;
        }
        return block;
    }
};

// Score row of query token t and head h: floats [offset + h·width, offset + (h + 1)·width).
struct AttentionRow {
    int64_t offset;
    int32_t width;
    int32_t position;
};

struct AttentionPlan {
    static constexpr int32_t kPromptPart = 256;

    int n_head = 0;
    int64_t n_keys = 0;
    int64_t score_floats = 0;
    std::vector<AttentionBlock> blocks;  // blocks of the same query come in the order of their columns
    std::vector<AttentionRow> rows;      // one per query token

    // A prompt of P tokens against itself. In parts, as a query sees nothing that comes after it.
    void add_prompt(int64_t q, int64_t k, int32_t P) {
        for (int32_t i = 0; i < P; i += kPromptPart) {
            const int32_t n = std::min(kPromptPart, P - i);
            blocks.push_back({q + i, n, k, i + n, 0, i});
        }
    }
    void add_row(int32_t position, int32_t width) {
        rows.push_back({score_floats, width, position});
        score_floats += int64_t{width} * n_head;
    }
};

}  // namespace vg
