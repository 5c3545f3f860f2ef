#include "packed_attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <unordered_map>

#include "gemm.h"
#include "ggml-impl.h"
#include "packed_backend.h"
#include "vec_math.h"

namespace vg {
namespace {

constexpr int64_t BLOCK = 96;         // queries at a time
constexpr int64_t FEWEST = 32;        // queries worth a block
constexpr size_t SCRATCH_ALIGN = 64;  // bytes

size_t product_scratch() { return (gemm_scratch_bytes() + SCRATCH_ALIGN - 1) / SCRATCH_ALIGN * SCRATCH_ALIGN; }

// Distance of two rows of scores, in floats: no multiple of a page, where all rows would share a few cache sets.
int64_t row_length(int64_t keys) {
    const int64_t length = (keys + kVec - 1) / kVec * kVec;
    return length % 256 == 0 ? length + kVec : length;
}

GemmWeights rows_of(const ggml_tensor * t, int64_t first, int64_t rows, int64_t matrix) {
    return {static_cast<const char *>(t->data) + first * int64_t(t->nb[1]) + matrix * int64_t(t->nb[2]), t->type,
            t->nb[1], rows, t->ne[0]};
}

// row[0..n) = exp(scale · (row − max)); returns the sum.
float exponentials(float * row, int64_t n, float scale) {
    vf highest = vf_set(-INFINITY);
    int64_t i = 0;
    for (; i + kVec <= n; i += kVec) {
        const vf x = vf_load(row + i);
        highest = x > highest ? x : highest;
    }
    float max = vf_max(highest);
    for (; i < n; i++) {
        max = std::max(max, row[i]);
    }
    vf sum = {};
    for (i = 0; i + kVec <= n; i += kVec) {
        const vf e = vf_exp((vf_load(row + i) - max) * scale);
        sum += e;
        vf_store(row + i, e);
    }
    float total = vf_sum(sum);
    if (i < n) {
        float rest[kVec];
        std::fill(rest, rest + kVec, max);
        std::memcpy(rest, row + i, size_t(n - i) * sizeof(float));
        vf_store(rest, vf_exp((vf_load(rest) - max) * scale));
        for (int64_t j = 0; j < n - i; j++) {
            total += rest[j];
        }
        std::memcpy(row + i, rest, size_t(n - i) * sizeof(float));
    }
    return total;
}

}  // namespace

std::vector<PackedAttention> find_packed_attention(ggml_cgraph * graph) {
    const int n = ggml_graph_n_nodes(graph);
    std::unordered_map<const ggml_tensor *, int> place, uses;
    for (int i = 0; i < n; i++) {
        const ggml_tensor * node = ggml_graph_node(graph, i);
        place[node] = i;
        for (const ggml_tensor * source : node->src) {
            if (source) {
                uses[source]++;
                if (source->view_src) {
                    uses[source->view_src]++;
                }
            }
        }
    }
    // ggml counts uses in the whole graph, and `uses` those of this part that go past the sources, to what a view
    // shows.
    const auto inner = [&](const ggml_tensor * t) {
        const auto at = place.find(t);
        return at != place.end() && ggml_node_has_n_uses(graph, at->second, 1) && uses[t] == 1 && ggml_is_contiguous(t);
    };
    std::vector<PackedAttention> found;
    for (int i = 0; i < n; i++) {
        ggml_tensor * mix = ggml_graph_node(graph, i);
        ggml_tensor * softmax = mix->op == GGML_OP_MUL_MAT ? mix->src[1] : nullptr;
        if (!softmax || softmax->op != GGML_OP_SOFT_MAX || softmax->src[1] || softmax->src[2] || !inner(softmax)) {
            continue;
        }
        ggml_tensor * scores = softmax->src[0];
        if (scores->op != GGML_OP_MUL_MAT || !inner(scores) || !packed_product_takes(scores) ||
            !packed_product_takes(mix) || !ggml_is_contiguous(mix)) {
            continue;
        }
        const ggml_tensor *k = scores->src[0], *q = scores->src[1], *v = mix->src[0];
        float scale, bias;
        std::memcpy(&scale, softmax->op_params, sizeof scale);
        std::memcpy(&bias, softmax->op_params + 1, sizeof bias);
        const auto v_at = place.find(v);
        if (bias != 0 || (v_at != place.end() && v_at->second > place[scores]) || scores->ne[3] != 1 ||
            k->ne[2] != q->ne[2] || v->ne[2] != q->ne[2] || q->ne[1] < FEWEST || mix->ne[0] > k->ne[1] ||
            softmax->data == nullptr || scores->data == nullptr) {
            continue;
        }
        found.push_back({scores, softmax, mix, scale});
    }
    return found;
}

void bind_packed_attention(const PackedAttention & attention) {
    attention.scores->src[2] = attention.mix->src[0];
    std::memcpy(reinterpret_cast<char *>(attention.scores->op_params) + PACKED_ATTENTION_PARAMS_AT, &attention.scale,
                sizeof(float));
}

void packed_attention(ggml_tensor * scores, int ith, int nth, void * scratch) {
    const ggml_tensor *k = scores->src[0], *q = scores->src[1], *v = scores->src[2];
    const int64_t keys = k->ne[1], queries = q->ne[1], heads = q->ne[2], d = v->ne[1];
    const int64_t blocks = (queries + BLOCK - 1) / BLOCK, ldp = row_length(keys);
    float scale;
    std::memcpy(&scale, reinterpret_cast<const char *>(scores->op_params) + PACKED_ATTENTION_PARAMS_AT, sizeof scale);
    float * p = reinterpret_cast<float *>(static_cast<char *>(scratch) + product_scratch());
    float sums[BLOCK];
    for (int64_t unit = ith; unit < heads * blocks; unit += nth) {
        const int64_t head = unit / blocks, begin = queries * (unit % blocks) / blocks;
        const int64_t rows = queries * (unit % blocks + 1) / blocks - begin;
        gemm_stored(rows_of(k, 0, keys, head), rows_of(q, begin, rows, head), p, ldp, 0, 1, scratch);
        for (int64_t r = 0; r < rows; r++) {
            sums[r] = exponentials(p + r * ldp, keys, scale);
        }
        float * out = static_cast<float *>(scores->data) + (head * queries + begin) * d;
        const GemmWeights weights = {p, GGML_TYPE_F32, size_t(ldp) * sizeof(float), rows, keys};
        gemm_stored(rows_of(v, 0, d, head), weights, out, d, 0, 1, scratch);
        for (int64_t r = 0; r < rows; r++) {
            const float factor = 1 / sums[r];
            for (int64_t c = 0; c < d; c++) {
                out[r * d + c] *= factor;
            }
        }
    }
}

size_t packed_attention_scratch(const PackedAttention & attention) {
    return product_scratch() + size_t(BLOCK * row_length(attention.scores->ne[0])) * sizeof(float);
}

size_t packed_attention_bytes(const PackedAttention & attention) { return ggml_nbytes(attention.mix); }

}  // namespace vg
