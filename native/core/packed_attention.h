// Attention without a mask, as whisper.cpp's encoder has it, in one step: the scores of a block of queries stay in the
// cache, and the whole array of scores is never written.
#pragma once

#include <cstddef>
#include <vector>

#include "ggml.h"

namespace vg {

// Bytes into the parameters of the node of scores: before them are those of a custom node.
constexpr size_t PACKED_ATTENTION_PARAMS_AT = 32;

// Three nodes of a graph: scores [keys, queries, heads] = K [d, keys, heads] · Q [d, queries, heads]; softmax of
// scale · scores; mix [d, queries, heads] = V [keys, d, heads] · softmax.
struct PackedAttention {
    ggml_tensor * scores;
    ggml_tensor * softmax;
    ggml_tensor * mix;
    float scale;
};

// Those of a graph that can be done in the place of their scores: nothing else uses scores and softmax, and V is there
// before the scores are. Of a part of a graph, as ggml's scheduler gives it, a use in another part counts too.
// Attention of few queries (decoding) is left as it is.
std::vector<PackedAttention> find_packed_attention(ggml_cgraph * graph);

// Makes of the node `scores` what packed_attention() reads: V becomes its third source, the scale one of its
// parameters, behind those of a custom node.
void bind_packed_attention(const PackedAttention & attention);

// Writes mix's values to the memory of the scores. Called by every one of nth threads; results do not depend on nth.
void packed_attention(ggml_tensor * scores, int ith, int nth, void * scratch);

size_t packed_attention_scratch(const PackedAttention & attention);  // bytes for each thread

// Of the values of mix.
size_t packed_attention_bytes(const PackedAttention & attention);

}  // namespace vg
