// Which token sees which, for a stream of tokens that packs prompts and their completions, or for one decoding step.
//
// A query's score row has one column per position: columns [0, P) are its prompt's keys, columns [P, …) its own
// completion's. A token at position p therefore sees columns [0, p], and a layer with a sliding window of w
// tokens the columns [max(0, p - w + 1), p]. So no mask exists anywhere.
#pragma once

#include <cstdint>
#include <vector>

namespace vg {

// Query tokens [q, q + n_q) against keys [k, k + n_k), whose scores stand in columns [col, col + n_k).
struct AttentionBlock {
    int64_t q, n_q;
    int64_t k, n_k;
    int64_t col;
};

// Score row of query token t and head h: floats [offset + h·width, offset + (h + 1)·width).
struct AttentionRow {
    int64_t offset;
    int32_t width;
    int32_t position;
};

struct AttentionPlan {
    int n_head = 0;
    int64_t n_keys = 0;
    int64_t score_floats = 0;
    std::vector<AttentionBlock> blocks;  // blocks of the same query come in the order of their columns
    std::vector<AttentionRow> rows;      // one per query token

    void add_row(int32_t position, int32_t width) {
        rows.push_back({score_floats, width, position});
        score_floats += int64_t{width} * n_head;
    }
};

}  // namespace vg
