#include "ops.h"

#include <algorithm>
#include <cstring>

#include "gemm.h"
#include "stopwatch.h"
#include "vec_math.h"

namespace vg {

namespace {

float * data(ggml_tensor * t) { return static_cast<float *>(t->data); }
const float * cdata(const ggml_tensor * t) { return static_cast<const float *>(t->data); }
int64_t stride(const ggml_tensor * t) { return int64_t(t->nb[1] / sizeof(float)); }

// The part of n that thread ith of nth owns, cut at multiples of `unit`.
struct Range {
    int64_t begin, end;
};
Range share(int64_t n, int ith, int nth, int64_t unit) {
    const int64_t units = (n + unit - 1) / unit;
    return {std::min(n, units * ith / nth * unit), std::min(n, units * (ith + 1) / nth * unit)};
}

GemmWeights weights_of(const ggml_tensor * w) { return {w->data, w->type, w->nb[1], w->ne[1], w->ne[0]}; }

GemmWeights rows_of(const float * p, int64_t row_floats, int64_t rows, int64_t cols) {
    return {p, GGML_TYPE_F32, size_t(row_floats) * sizeof(float), rows, cols};
}

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

}  // namespace

void Ops::run_timed(ggml_tensor * dst, int ith, int nth, void * raw) {
    const auto & node = *static_cast<Node *>(raw);
    if (ith != 0 || node.work == Engine::OTHER)
        return node.run(dst, ith, nth, raw);
    Stopwatch watch;
    node.run(dst, ith, nth, raw);
    node.engine->add_work(node.work, watch.lap());
}

ggml_tensor * Ops::node(const Node & params, ggml_custom_op_t f, int64_t ne0, int64_t ne1,
                        std::initializer_list<ggml_tensor *> args) {
    nodes_.push_back(params);
    nodes_.back().engine = &engine_;
    nodes_.back().run = f;
    ggml_tensor * list[4];
    std::copy(args.begin(), args.end(), list);
    return ggml_custom_4d(ctx_, GGML_TYPE_F32, ne0, ne1, 1, 1, list, int(args.size()), run_timed, GGML_N_TASKS_MAX,
                          &nodes_.back());
}

// ---- linear ----

ggml_tensor * Ops::linear(ggml_tensor * w, ggml_tensor * x, Engine::Work work) {
    GGML_ASSERT(w->ne[0] == x->ne[0]);
    engine_.reserve_scratch(gemm_scratch_bytes(x->ne[1], weights_of(w), false));
    Node params = {};
    params.work = work;
    return node(params,
                [](ggml_tensor * dst, int ith, int nth, void * p) {
                    const auto * x = dst->src[1];
                    gemm(weights_of(dst->src[0]), false, cdata(x), stride(x), data(dst), stride(dst), x->ne[1], false,
                         ith, nth, static_cast<Node *>(p)->engine->scratch(ith));
                },
                w->ne[1], x->ne[1], {w, x});
}

ggml_tensor * Ops::linear_back(ggml_tensor * w, ggml_tensor * dy, Engine::Work work) {
    GGML_ASSERT(w->ne[1] == dy->ne[0]);
    engine_.reserve_scratch(gemm_scratch_bytes(dy->ne[1], weights_of(w), true));
    Node params = {};
    params.work = work;
    return node(params,
                [](ggml_tensor * dst, int ith, int nth, void * p) {
                    const auto * dy = dst->src[1];
                    gemm(weights_of(dst->src[0]), true, cdata(dy), stride(dy), data(dst), stride(dst), dy->ne[1], false,
                         ith, nth, static_cast<Node *>(p)->engine->scratch(ith));
                },
                w->ne[0], dy->ne[1], {w, dy});
}

ggml_tensor * Ops::accumulate_outer(ggml_tensor * gradient, ggml_tensor * a, ggml_tensor * b) {
    GGML_ASSERT(gradient->ne[1] == a->ne[0] && gradient->ne[0] == b->ne[0] && a->ne[1] == b->ne[1]);
    const int64_t narrow = std::min(a->ne[0], b->ne[0]), wide = std::max(a->ne[0], b->ne[0]);
    engine_.reserve_scratch(gemm_outer_scratch_bytes() + size_t(wide * narrow) * sizeof(float) + 64);
    Node params = {};
    params.work = Engine::LORA;
    params.gradient = gradient;
    return node(params,
                [](ggml_tensor * dst, int ith, int nth, void * p) {
                    const auto & node = *static_cast<Node *>(p);
                    const auto * a = dst->src[0];
                    const auto * b = dst->src[1];
                    void * scratch = node.engine->scratch(ith);
                    const auto rows = a->ne[0], cols = b->ne[0], T = a->ne[1];
                    float * g = data(node.gradient);
                    // The long side is split between the threads and goes first, where the product is fast.
                    const auto [begin, end] = share(std::max(rows, cols), ith, nth, 16);
                    if (begin == end)
                        return;
                    if (rows >= cols) {
                        gemm_outer(cdata(a) + begin, stride(a), cdata(b), stride(b), g + begin * cols, cols, T,
                                   end - begin, cols, 0, 1, scratch);
                        return;
                    }
                    float * transposed = static_cast<float *>(scratch);
                    void * rest =
                        static_cast<char *>(scratch) + (size_t((end - begin) * rows) * sizeof(float) + 63) / 64 * 64;
                    std::memset(transposed, 0, size_t((end - begin) * rows) * sizeof(float));
                    gemm_outer(cdata(b) + begin, stride(b), cdata(a), stride(a), transposed, rows, T, end - begin, rows,
                               0, 1, rest);
                    for (int64_t r = 0; r < rows; ++r) {
                        for (int64_t c = begin; c < end; ++c)
                            g[r * cols + c] += transposed[(c - begin) * rows + r];
                    }
                },
                1, 1, {a, b});
}

// ---- GeGLU: y = g·σ(2c(g + 0.044715 g³))·u with c = √(2/π), which is gelu_tanh(g)·u ----

static constexpr float kGelu2C = 1.5957691216057308f;  // 2·√(2/π)
static constexpr float kGeluCubic = 0.044715f;

static vf gelu_sigmoid(const vf & g) { return 1.0f / (1.0f + vf_exp(-kGelu2C * (g + kGeluCubic * g * g * g))); }

ggml_tensor * Ops::geglu(ggml_tensor * gate, ggml_tensor * up) {
    Node params = {};
    return node(params,
                [](ggml_tensor * dst, int ith, int nth, void *) {
                    const auto n = ggml_nelements(dst);
                    const auto [begin, end] = share(n, ith, nth, kVec);
                    const float *g = cdata(dst->src[0]), *u = cdata(dst->src[1]);
                    float * y = data(dst);
                    int64_t i = begin;
                    for (; i + kVec <= end; i += kVec) {
                        const vf x = vf_load(g + i);
                        vf_store(y + i, x * gelu_sigmoid(x) * vf_load(u + i));
                    }
                    for (; i < end; ++i)
                        y[i] = (g[i] * gelu_sigmoid(vf_set(g[i])) * u[i])[0];
                },
                gate->ne[0], gate->ne[1], {gate, up});
}

ggml_tensor * Ops::geglu_back(ggml_tensor * dy, ggml_tensor * gate, ggml_tensor * up) {
    Node params = {};
    return node(params,
                [](ggml_tensor * dst, int ith, int nth, void *) {
                    const auto F = dst->src[0]->ne[0], T = dst->src[0]->ne[1];
                    const auto [begin, end] = share(T, ith, nth, 1);
                    for (int64_t t = begin; t < end; ++t) {
                        const float *dy = cdata(dst->src[0]) + t * F, *g = cdata(dst->src[1]) + t * F,
                                    *u = cdata(dst->src[2]) + t * F;
                        float * dg = data(dst) + 2 * t * F;
                        float * du = dg + F;
                        for (int64_t i = 0; i < F; i += kVec) {
                            // The tail is computed on padded copies.
                            const auto n = size_t(std::min<int64_t>(kVec, F - i)) * sizeof(float);
                            vf x = {}, v = {}, d = {};
                            std::memcpy(&x, g + i, n);
                            std::memcpy(&v, u + i, n);
                            std::memcpy(&d, dy + i, n);
                            const vf s = gelu_sigmoid(x);
                            const vf slope = s + x * s * (1.0f - s) * kGelu2C * (1.0f + 3.0f * kGeluCubic * x * x);
                            const vf dgate = d * v * slope, dup = d * x * s;
                            std::memcpy(dg + i, &dgate, n);
                            std::memcpy(du + i, &dup, n);
                        }
                    }
                },
                2 * gate->ne[0], gate->ne[1], {dy, gate, up});
}

// ---- attention ----

static size_t attention_scratch(const AttentionPlan & plan, int head_dim, int n_kv) {
    size_t bytes = 0;
    for (const auto & block : plan.blocks) {
        const auto rows = block_rows(plan, block, head_dim, n_kv);
        const auto keys = rows_of(nullptr, int64_t{head_dim} * n_kv, block.n_k, head_dim);
        bytes = std::max({bytes, gemm_scratch_bytes(rows.m, keys, false), gemm_scratch_bytes(rows.m, keys, true),
                          gemm_outer_scratch_bytes()});
    }
    return bytes;
}

ggml_tensor * Ops::attention_scores(ggml_tensor * q, ggml_tensor * k, const AttentionPlan & plan, int head_dim) {
    Node params = {};
    params.work = Engine::ATTENTION;
    params.plan = &plan;
    params.head_dim = head_dim;
    params.n_kv = int(k->ne[0] / head_dim);
    engine_.reserve_scratch(attention_scratch(plan, head_dim, params.n_kv));
    return node(params,
                [](ggml_tensor * dst, int ith, int nth, void * p) {
                    const auto & node = *static_cast<Node *>(p);
                    const auto & plan = *node.plan;
                    const auto * q = dst->src[0];
                    const auto * k = dst->src[1];
                    const int hd = node.head_dim;
                    int64_t small = 0;
                    for (const auto & block : plan.blocks) {
                        // Few keys: a whole block a thread. Many: all threads share the keys.
                        int part = ith, parts = nth;
                        if (block.n_k < 64) {
                            if (small++ % nth != ith)
                                continue;
                            part = 0, parts = 1;
                        }
                        const auto rows = block_rows(plan, block, hd, node.n_kv);
                        for (int64_t h = 0; h < rows.count; ++h) {
                            const int64_t kv = h * node.n_kv / plan.n_head;
                            gemm(rows_of(cdata(k) + block.k * stride(k) + kv * hd, stride(k), block.n_k, hd), false,
                                 cdata(q) + block.q * stride(q) + h * hd, rows.x_stride,
                                 data(dst) + plan.rows[size_t(block.q)].offset + h * plan.rows[size_t(block.q)].width +
                                     block.col,
                                 rows.score_stride, rows.m, false, part, parts, node.engine->scratch(ith));
                        }
                    }
                },
                plan.score_floats, 1, {q, k});
}

ggml_tensor * Ops::attention_softmax(ggml_tensor * scores, const AttentionPlan & plan, float scale, int window) {
    Node params = {};
    params.work = Engine::ATTENTION;
    params.plan = &plan;
    params.scale = scale;
    params.window = window;
    return node(params,
                [](ggml_tensor * dst, int ith, int nth, void * p) {
                    const auto & node = *static_cast<Node *>(p);
                    const auto & plan = *node.plan;
                    const auto [begin, end] = share(int64_t(plan.rows.size()), ith, nth, 1);
                    for (int64_t t = begin; t < end; ++t) {
                        const auto & row = plan.rows[size_t(t)];
                        const int last = row.position + 1;
                        const int first = node.window > 0 ? std::max(0, last - node.window) : 0;
                        for (int h = 0; h < plan.n_head; ++h) {
                            const float * s = cdata(dst->src[0]) + row.offset + int64_t{h} * row.width;
                            float * y = data(dst) + row.offset + int64_t{h} * row.width;
                            float max = s[first];
                            for (int c = first; c < last; ++c)
                                max = s[c] > max ? s[c] : max;
                            std::fill(y, y + first, 0.0f);
                            vf_map(s + first, y + first, last - first,
                                   [&](const vf & v) { return vf_exp((v - max) * node.scale); });
                            double sum = 0;
                            for (int c = first; c < last; ++c)
                                sum += double(y[c]);
                            const float inverse = float(1.0 / sum);
                            for (int c = first; c < last; ++c)
                                y[c] *= inverse;
                            std::fill(y + last, y + row.width, 0.0f);
                        }
                    }
                },
                plan.score_floats, 1, {scores});
}

ggml_tensor * Ops::attention_softmax_back(ggml_tensor * p, ggml_tensor * dp, const AttentionPlan & plan, float scale,
                                          int window) {
    Node params = {};
    params.work = Engine::ATTENTION;
    params.plan = &plan;
    params.scale = scale;
    params.window = window;
    return node(params,
                [](ggml_tensor * dst, int ith, int nth, void * raw) {
                    const auto & node = *static_cast<Node *>(raw);
                    const auto & plan = *node.plan;
                    const auto [begin, end] = share(int64_t(plan.rows.size()), ith, nth, 1);
                    for (int64_t t = begin; t < end; ++t) {
                        const auto & row = plan.rows[size_t(t)];
                        const int last = row.position + 1;
                        const int first = node.window > 0 ? std::max(0, last - node.window) : 0;
                        for (int h = 0; h < plan.n_head; ++h) {
                            const auto at = row.offset + int64_t{h} * row.width;
                            const float * prob = cdata(dst->src[0]) + at;
                            const float * dprob = cdata(dst->src[1]) + at;
                            float * ds = data(dst) + at;
                            double dot = 0;
                            for (int c = first; c < last; ++c)
                                dot += double(prob[c]) * double(dprob[c]);
                            const float mean = float(dot);
                            std::fill(ds, ds + first, 0.0f);
                            for (int c = first; c < last; ++c)
                                ds[c] = node.scale * prob[c] * (dprob[c] - mean);
                            std::fill(ds + last, ds + row.width, 0.0f);
                        }
                    }
                },
                plan.score_floats, 1, {p, dp});
}

ggml_tensor * Ops::attention_mix(ggml_tensor * p, ggml_tensor * v, const AttentionPlan & plan, int head_dim) {
    Node params = {};
    params.work = Engine::ATTENTION;
    params.plan = &plan;
    params.head_dim = head_dim;
    params.n_kv = int(v->ne[0] / head_dim);
    engine_.reserve_scratch(attention_scratch(plan, head_dim, params.n_kv));
    return node(
        params,
        [](ggml_tensor * dst, int ith, int nth, void * raw) {
            const auto & node = *static_cast<Node *>(raw);
            const auto & plan = *node.plan;
            const auto * p = dst->src[0];
            const auto * v = dst->src[1];
            const int hd = node.head_dim;
            const auto [begin, end] = share(hd, ith, nth, kVec);
            if (begin == end)
                return;
            for (const auto & block : plan.blocks) {
                const auto rows = block_rows(plan, block, hd, node.n_kv);
                for (int64_t h = 0; h < rows.count; ++h) {
                    const int64_t kv = h * node.n_kv / plan.n_head;
                    const auto & row = plan.rows[size_t(block.q)];
                    gemm(rows_of(cdata(v) + block.k * stride(v) + kv * hd + begin, stride(v), block.n_k, end - begin),
                         true, cdata(p) + row.offset + h * row.width + block.col, rows.score_stride,
                         data(dst) + block.q * stride(dst) + h * hd + begin, rows.x_stride, rows.m, block.col > 0, 0, 1,
                         node.engine->scratch(ith));
                }
            }
        },
        int64_t{head_dim} * plan.n_head, int64_t(plan.rows.size()), {p, v});
}

ggml_tensor * Ops::attention_mix_back(ggml_tensor * p, ggml_tensor * x, const AttentionPlan & plan, int head_dim,
                                      int n_kv) {
    Node params = {};
    params.work = Engine::ATTENTION;
    params.plan = &plan;
    params.head_dim = head_dim;
    params.n_kv = n_kv;
    engine_.reserve_scratch(attention_scratch(plan, head_dim, n_kv));
    return node(params,
                [](ggml_tensor * dst, int ith, int nth, void * raw) {
                    const auto & node = *static_cast<Node *>(raw);
                    const auto & plan = *node.plan;
                    const auto * p = dst->src[0];
                    const auto * x = dst->src[1];
                    const int hd = node.head_dim;
                    // Threads own keys, so several blocks may add to the same key without a race.
                    const auto [begin, end] = share(plan.n_keys, ith, nth, 16);
                    std::memset(data(dst) + begin * stride(dst), 0,
                                size_t((end - begin) * stride(dst)) * sizeof(float));
                    for (const auto & block : plan.blocks) {
                        const int64_t k0 = std::max(begin, block.k), k1 = std::min(end, block.k + block.n_k);
                        if (k0 >= k1)
                            continue;
                        const auto rows = block_rows(plan, block, hd, node.n_kv);
                        const auto & row = plan.rows[size_t(block.q)];
                        for (int64_t h = 0; h < rows.count; ++h) {
                            const int64_t kv = h * node.n_kv / plan.n_head;
                            gemm_outer(cdata(p) + row.offset + h * row.width + block.col + (k0 - block.k),
                                       rows.score_stride, cdata(x) + block.q * stride(x) + h * hd, rows.x_stride,
                                       data(dst) + k0 * stride(dst) + kv * hd, stride(dst), rows.m, k1 - k0, hd, 0, 1,
                                       node.engine->scratch(ith));
                        }
                    }
                },
                int64_t{head_dim} * n_kv, plan.n_keys, {p, x});
}

}  // namespace vg
