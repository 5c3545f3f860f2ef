// Attention over a plan: which query sees which keys.
#include <cstring>

#include "ops_internal.h"
#include "vec_math.h"

namespace vg {

namespace {

// The rows of a block as matrices. With one key/value head all heads of all queries are rows of one matrix; else one
// matrix a head.
struct BlockRows {
    int64_t count;         // matrices
    int64_t m;             // rows of each
    int64_t x_stride;      // floats between rows of a [hd·n_head, T] tensor
    int64_t score_stride;  // floats between score rows
};
BlockRows block_rows(const AttentionPlan & plan, const AttentionBlock & block, int head_dim, int n_kv) {
    const int64_t width = plan.rows[size_t(block.q)].width;
    if (n_kv == 1)
        return {1, block.n_q * plan.n_head, head_dim, width};
    return {plan.n_head, block.n_q, int64_t{head_dim} * plan.n_head, width * plan.n_head};
}

// f(offset, first, last, width) for each score row of this thread, which sees the columns [first, last).
template <class F> void each_row(const AttentionPlan & plan, int window, int ith, int nth, F f) {
    const auto [begin, end] = share(int64_t(plan.rows.size()), ith, nth, 1);
    for (int64_t t = begin; t < end; ++t) {
        const auto & row = plan.rows[size_t(t)];
        const int last = row.position + 1;
        const int first = window > 0 ? std::max(0, last - window) : 0;
        for (int h = 0; h < plan.n_head; ++h)
            f(row.offset + int64_t{h} * row.width, first, last, row.width);
    }
}

constexpr int64_t kStripe = 128;  // keys of a thread's turn

}  // namespace

ggml_tensor * Ops::attention_scores(ggml_tensor * q, ggml_tensor * k, const AttentionPlan & plan, int head_dim,
                                    int window) {
    const int n_kv = int(k->ne[0] / head_dim);
    engine_.reserve_scratch(gemm_scratch_bytes());
    return node(Engine::ATTENTION, plan.score_floats, 1, {q, k},
                [this, &plan, hd = head_dim, n_kv, window](ggml_tensor * dst, int ith, int nth) {
                    const auto * q = dst->src[0];
                    const auto * k = dst->src[1];
                    int64_t small = 0;
                    for (const auto & whole : plan.blocks) {
                        const auto block = whole.within(window);
                        // Few keys: a whole block a thread. Many: all threads share the keys.
                        int part = ith, parts = nth;
                        if (block.n_k < 64) {
                            if (small++ % nth != ith)
                                continue;
                            part = 0, parts = 1;
                        }
                        const auto rows = block_rows(plan, block, hd, n_kv);
                        for (int64_t h = 0; h < rows.count; ++h) {
                            const int64_t kv = h * n_kv / plan.n_head;
                            gemm(rows_of(cdata(k) + block.k * stride(k) + kv * hd, stride(k), block.n_k, hd), false,
                                 cdata(q) + block.q * stride(q) + h * hd, rows.x_stride,
                                 data(dst) + plan.rows[size_t(block.q)].offset + h * plan.rows[size_t(block.q)].width +
                                     block.col,
                                 rows.score_stride, rows.m, false, part, parts, engine_.scratch(ith));
                        }
                    }
                });
}

ggml_tensor * Ops::attention_softmax(ggml_tensor * scores, const AttentionPlan & plan, float scale, int window) {
    return node(
        Engine::ATTENTION, plan.score_floats, 1, {scores}, [&plan, scale, window](ggml_tensor * dst, int ith, int nth) {
            each_row(plan, window, ith, nth, [&](int64_t offset, int first, int last, int width) {
                const float * s = cdata(dst->src[0]) + offset;
                float * y = data(dst) + offset;
                float max = s[first];
                for (int c = first; c < last; ++c)
                    max = s[c] > max ? s[c] : max;
                std::fill(y, y + first, 0.0f);
                vf_map(s + first, y + first, last - first, [&](const vf & v) { return vf_exp((v - max) * scale); });
                double sum = 0;
                for (int c = first; c < last; ++c)
                    sum += double(y[c]);
                const float inverse = float(1.0 / sum);
                for (int c = first; c < last; ++c)
                    y[c] *= inverse;
                std::fill(y + last, y + width, 0.0f);
            });
        });
}

ggml_tensor * Ops::attention_softmax_back(ggml_tensor * p, ggml_tensor * dp, const AttentionPlan & plan, float scale,
                                          int window) {
    return node(Engine::ATTENTION, plan.score_floats, 1, {p, dp},
                [&plan, scale, window](ggml_tensor * dst, int ith, int nth) {
                    each_row(plan, window, ith, nth, [&](int64_t offset, int first, int last, int width) {
                        const float * prob = cdata(dst->src[0]) + offset;
                        const float * dprob = cdata(dst->src[1]) + offset;
                        float * ds = data(dst) + offset;
                        double dot = 0;
                        for (int c = first; c < last; ++c)
                            dot += double(prob[c]) * double(dprob[c]);
                        const float mean = float(dot);
                        std::fill(ds, ds + first, 0.0f);
                        for (int c = first; c < last; ++c)
                            ds[c] = scale * prob[c] * (dprob[c] - mean);
                        std::fill(ds + last, ds + width, 0.0f);
                    });
                });
}

ggml_tensor * Ops::attention_mix(ggml_tensor * p, ggml_tensor * v, const AttentionPlan & plan, int head_dim,
                                 int window) {
    const int n_kv = int(v->ne[0] / head_dim);
    engine_.reserve_scratch(gemm_scratch_bytes());
    return node(
        Engine::ATTENTION, int64_t{head_dim} * plan.n_head, int64_t(plan.rows.size()), {p, v},
        [this, &plan, hd = head_dim, n_kv, window](ggml_tensor * dst, int ith, int nth) {
            const auto * p = dst->src[0];
            const auto * v = dst->src[1];
            const auto [begin, end] = share(hd, ith, nth, kVec);
            if (begin == end)
                return;
            for (const auto & whole : plan.blocks) {
                const auto block = whole.within(window);
                const auto rows = block_rows(plan, block, hd, n_kv);
                for (int64_t h = 0; h < rows.count; ++h) {
                    const int64_t kv = h * n_kv / plan.n_head;
                    const auto & row = plan.rows[size_t(block.q)];
                    gemm(rows_of(cdata(v) + block.k * stride(v) + kv * hd + begin, stride(v), block.n_k, end - begin),
                         true, cdata(p) + row.offset + h * row.width + block.col, rows.score_stride,
                         data(dst) + block.q * stride(dst) + h * hd + begin, rows.x_stride, rows.m, whole.col > 0, 0, 1,
                         engine_.scratch(ith));
                }
            }
        });
}

ggml_tensor * Ops::attention_mix_back(ggml_tensor * p, ggml_tensor * x, const AttentionPlan & plan, int head_dim,
                                      int n_kv, int window) {
    engine_.reserve_scratch(gemm_scratch_bytes());
    return node(Engine::ATTENTION, int64_t{head_dim} * n_kv, plan.n_keys, {p, x},
                [this, &plan, hd = head_dim, n_kv, window](ggml_tensor * dst, int ith, int nth) {
                    const auto * p = dst->src[0];
                    const auto * x = dst->src[1];
                    // Threads own keys, so several blocks may add to the same key without a race. Early keys are seen
                    // by more queries than late ones, so the threads take turns.
                    for (int64_t begin = ith * kStripe; begin < plan.n_keys; begin += nth * kStripe) {
                        const int64_t end = std::min(plan.n_keys, begin + kStripe);
                        std::memset(row(dst, begin), 0, size_t((end - begin) * stride(dst)) * sizeof(float));
                        for (const auto & whole : plan.blocks) {
                            const auto block = whole.within(window);
                            const int64_t k0 = std::max(begin, block.k), k1 = std::min(end, block.k + block.n_k);
                            if (k0 >= k1)
                                continue;
                            const auto rows = block_rows(plan, block, hd, n_kv);
                            const auto & first = plan.rows[size_t(block.q)];
                            for (int64_t h = 0; h < rows.count; ++h) {
                                const int64_t kv = h * n_kv / plan.n_head;
                                gemm_outer(cdata(p) + first.offset + h * first.width + block.col + (k0 - block.k),
                                           rows.score_stride, cdata(x) + block.q * stride(x) + h * hd, rows.x_stride,
                                           row(dst, k0) + kv * hd, stride(dst), rows.m, k1 - k0, hd, 0, 1,
                                           engine_.scratch(ith));
                            }
                        }
                    }
                });
}

}  // namespace vg
