// Embedding, norms, RoPE and GeGLU: each row for itself.
#include <cmath>
#include <cstring>

#include "ops_internal.h"
#include "vec_math.h"

namespace vg {

// ---- y = x · r · w with r = 1 / √(mean x² + eps) ----

namespace {

float dot(const float * a, const float * b, int64_t n) {
    vf sum = {};
    int64_t i = 0;
    for (; i + kVec <= n; i += kVec)
        sum += vf_load(a + i) * vf_load(b + i);
    float rest = 0;
    for (; i < n; ++i)
        rest += a[i] * b[i];
    return vf_sum(sum) + rest;
}

float inverse_rms(const float * x, int64_t n, float eps) { return 1.0f / std::sqrt(dot(x, x, n) / float(n) + eps); }

void norm_row(const float * x, const float * w, float * y, int64_t n, float eps) {
    const float r = inverse_rms(x, n, eps);
    for (int64_t i = 0; i < n; ++i)
        y[i] = x[i] * r * w[i];
}

// dx = r·(g - x · r² · mean(g x)) with g = dy · w. dx may be dy.
void norm_row_back(const float * dy, const float * x, const float * w, float * dx, int64_t n, float eps) {
    const float r = inverse_rms(x, n, eps);
    for (int64_t i = 0; i < n; ++i)
        dx[i] = dy[i] * w[i];
    const float c = r * r * dot(dx, x, n) / float(n);
    for (int64_t i = 0; i < n; ++i)
        dx[i] = r * (dx[i] - c * x[i]);
}

// (a, b) turned by the angle, over the two halves of a head
void turn(float * head, const float * cos, const float * sin, int64_t half) {
    for (int64_t i = 0; i < half; ++i) {
        const float a = head[i], b = head[i + half];
        head[i] = a * cos[i] - b * sin[i];
        head[i + half] = b * cos[i] + a * sin[i];
    }
}

void turn_back(float * head, const float * cos, const float * sin, int64_t half) {
    for (int64_t i = 0; i < half; ++i) {
        const float a = head[i], b = head[i + half];
        head[i] = a * cos[i] + b * sin[i];
        head[i + half] = b * cos[i] - a * sin[i];
    }
}

}  // namespace

ggml_tensor * Ops::embed(ggml_tensor * w, const std::vector<int32_t> & tokens, float scale) {
    return node(Engine::OTHER, w->ne[0], int64_t(tokens.size()), {w},
                [&tokens, scale](ggml_tensor * x, int ith, int nth) {
                    const ggml_tensor * w = x->src[0];
                    const int64_t n = w->ne[0];
                    const auto [begin, end] = share(x->ne[1], ith, nth, 1);
                    for (int64_t t = begin; t < end; ++t) {
                        float * to = row(x, t);
                        stored_row(w, tokens[size_t(t)], to);
                        for (int64_t i = 0; i < n; ++i)
                            to[i] *= scale;
                    }
                });
}

ggml_tensor * Ops::gather(ggml_tensor * x, const std::vector<int32_t> & rows) {
    return node(Engine::OTHER, x->ne[0], int64_t(rows.size()), {x}, [&rows](ggml_tensor * y, int ith, int nth) {
        const auto [begin, end] = share(y->ne[1], ith, nth, 1);
        for (int64_t t = begin; t < end; ++t)
            std::memcpy(row(y, t), row(y->src[0], rows[size_t(t)]), size_t(y->ne[0]) * sizeof(float));
    });
}

ggml_tensor * Ops::norm(ggml_tensor * x, ggml_tensor * w, float eps) {
    return node(Engine::OTHER, x->ne[0], x->ne[1], {x, w}, [eps](ggml_tensor * y, int ith, int nth) {
        const ggml_tensor *x = y->src[0], *w = y->src[1];
        const auto [begin, end] = share(y->ne[1], ith, nth, 1);
        for (int64_t t = begin; t < end; ++t)
            norm_row(row(x, t), cdata(w), row(y, t), y->ne[0], eps);
    });
}

ggml_tensor * Ops::add_norm(ggml_tensor * x, ggml_tensor * y, ggml_tensor * w, float eps) {
    return node(Engine::OTHER, x->ne[0], x->ne[1], {x, y, w}, [eps](ggml_tensor * out, int ith, int nth) {
        const ggml_tensor *x = out->src[0], *y = out->src[1], *w = out->src[2];
        const int64_t n = out->ne[0];
        const auto [begin, end] = share(out->ne[1], ith, nth, 1);
        for (int64_t t = begin; t < end; ++t) {
            const float *a = row(x, t), *b = row(y, t), *weight = cdata(w);
            float * to = row(out, t);
            const float r = inverse_rms(b, n, eps);
            for (int64_t i = 0; i < n; ++i)
                to[i] = a[i] + b[i] * r * weight[i];
        }
    });
}

ggml_tensor * Ops::norm_back(ggml_tensor * dy, ggml_tensor * x, ggml_tensor * w, float eps, ggml_tensor * add) {
    return node(Engine::OTHER, x->ne[0], x->ne[1], {dy, x, w, add ? add : dy},
                [eps, adds = add != nullptr](ggml_tensor * dx, int ith, int nth) {
                    const ggml_tensor *dy = dx->src[0], *x = dx->src[1], *w = dx->src[2], *add = dx->src[3];
                    const int64_t n = dx->ne[0];
                    const auto [begin, end] = share(dx->ne[1], ith, nth, 1);
                    for (int64_t t = begin; t < end; ++t) {
                        float * to = row(dx, t);
                        norm_row_back(row(dy, t), row(x, t), cdata(w), to, n, eps);
                        if (!adds)
                            continue;
                        const float * more = row(add, t);
                        for (int64_t i = 0; i < n; ++i)
                            to[i] += more[i];
                    }
                });
}

ggml_tensor * Ops::norm_at(ggml_tensor * x, const std::vector<int32_t> & rows, ggml_tensor * w, float eps) {
    return node(Engine::OTHER, x->ne[0], int64_t(rows.size()), {x, w}, [&rows, eps](ggml_tensor * y, int ith, int nth) {
        const ggml_tensor *x = y->src[0], *w = y->src[1];
        const auto [begin, end] = share(y->ne[1], ith, nth, 1);
        for (int64_t r = begin; r < end; ++r)
            norm_row(row(x, rows[size_t(r)]), cdata(w), row(y, r), y->ne[0], eps);
    });
}

ggml_tensor * Ops::norm_at_back(ggml_tensor * dy, ggml_tensor * x, const std::vector<int32_t> & rows, ggml_tensor * w,
                                float eps) {
    return node(Engine::OTHER, x->ne[0], x->ne[1], {dy, x, w}, [&rows, eps](ggml_tensor * dx, int ith, int nth) {
        const ggml_tensor *dy = dx->src[0], *x = dx->src[1], *w = dx->src[2];
        const auto [begin, end] = share(dx->ne[1], ith, nth, 1);
        std::memset(row(dx, begin), 0, size_t((end - begin) * stride(dx)) * sizeof(float));
        for (size_t r = 0; r < rows.size(); ++r) {
            const int64_t t = rows[r];
            if (t >= begin && t < end)
                norm_row_back(row(dy, int64_t(r)), row(x, t), cdata(w), row(dx, t), dx->ne[0], eps);
        }
    });
}

// ---- RoPE ----

namespace {

// y = RoPE(norm(x)) of heads that stand one after another; n floats
void turn_heads(const float * x, float * y, int64_t n, const ggml_tensor * w, float eps, const RopeTable & rope,
                int64_t position) {
    const int64_t hd = w->ne[0];
    for (int64_t h = 0; h < n; h += hd) {
        norm_row(x + h, cdata(w), y + h, hd, eps);
        turn(y + h, rope.cos(position), rope.sin(position), rope.half());
    }
}

void turn_heads_back(const float * dy, const float * x, float * dx, int64_t n, const ggml_tensor * w, float eps,
                     const RopeTable & rope, int64_t position) {
    const int64_t hd = w->ne[0];
    std::memcpy(dx, dy, size_t(n) * sizeof(float));
    for (int64_t h = 0; h < n; h += hd) {
        turn_back(dx + h, rope.cos(position), rope.sin(position), rope.half());
        norm_row_back(dx + h, x + h, cdata(w), dx + h, hd, eps);
    }
}

}  // namespace

ggml_tensor * Ops::queries(ggml_tensor * qkv, int n_head, ggml_tensor * w, float eps, const RopeTable & rope,
                           const std::vector<int32_t> & positions) {
    GGML_ASSERT(rope.half() * 2 == w->ne[0] && int64_t(positions.size()) == qkv->ne[1]);
    return node(Engine::OTHER, w->ne[0] * n_head, qkv->ne[1], {qkv, w},
                [eps, &rope, &positions](ggml_tensor * q, int ith, int nth) {
                    const auto [begin, end] = share(q->ne[1], ith, nth, 1);
                    for (int64_t t = begin; t < end; ++t)
                        turn_heads(row(q->src[0], t), row(q, t), q->ne[0], q->src[1], eps, rope, positions[size_t(t)]);
                });
}

ggml_tensor * Ops::store_keys(ggml_tensor * qkv, const KvLayer & to, const std::vector<int32_t> & cells,
                              ggml_tensor * w, float eps, const RopeTable & rope,
                              const std::vector<int32_t> & positions) {
    GGML_ASSERT(rope.half() * 2 == w->ne[0] && int64_t(positions.size()) == qkv->ne[1]);
    return node(Engine::OTHER, 1, 1, {qkv, w}, [=, &rope, &positions, &cells](ggml_tensor * dst, int ith, int nth) {
        const ggml_tensor *qkv = dst->src[0], *w = dst->src[1];
        const int64_t width = to.k->ne[0], q_width = qkv->ne[0] - 2 * width;
        const auto [begin, end] = share(qkv->ne[1], ith, nth, 1);
        for (int64_t t = begin; t < end; ++t) {
            const float * k0 = row(qkv, t) + q_width;
            turn_heads(k0, row(to.k, cells[size_t(t)]), width, w, eps, rope, positions[size_t(t)]);
            std::memcpy(row(to.v, cells[size_t(t)]), k0 + width, size_t(width) * sizeof(float));
        }
    });
}

ggml_tensor * Ops::qkv_back(ggml_tensor * dq, ggml_tensor * dk, ggml_tensor * dv, ggml_tensor * qkv,
                            ggml_tensor * q_norm, ggml_tensor * k_norm, float eps, const RopeTable & rope,
                            const std::vector<int32_t> & positions) {
    GGML_ASSERT(dq->ne[0] + 2 * dk->ne[0] == qkv->ne[0] && int64_t(positions.size()) == qkv->ne[1]);
    return node(Engine::OTHER, qkv->ne[0], qkv->ne[1], {dq, dk, dv, qkv, q_norm, k_norm},
                [eps, &rope, &positions](ggml_tensor * dst, int ith, int nth) {
                    const ggml_tensor *dq = dst->src[0], *dk = dst->src[1], *dv = dst->src[2], *qkv = dst->src[3];
                    const int64_t n_q = dq->ne[0], n_kv = dk->ne[0];
                    const auto [begin, end] = share(dst->ne[1], ith, nth, 1);
                    for (int64_t t = begin; t < end; ++t) {
                        const int64_t position = positions[size_t(t)];
                        const float * x = row(qkv, t);
                        float * to = row(dst, t);
                        turn_heads_back(row(dq, t), x, to, n_q, dst->src[4], eps, rope, position);
                        turn_heads_back(row(dk, t), x + n_q, to + n_q, n_kv, dst->src[5], eps, rope, position);
                        std::memcpy(to + n_q + n_kv, row(dv, t), size_t(n_kv) * sizeof(float));
                    }
                });
}

// ---- GeGLU: y = g·σ(2c(g + 0.044715 g³))·u with c = √(2/π), which is gelu_tanh(g)·u ----

static constexpr float kGelu2C = 1.5957691216057308f;  // 2·√(2/π)
static constexpr float kGeluCubic = 0.044715f;

static vf gelu_sigmoid(const vf & g) { return 1.0f / (1.0f + vf_exp(-kGelu2C * (g + kGeluCubic * g * g * g))); }

// n floats of a vector; the rest is zero.
static vf load_part(const float * p, int64_t n) {
    vf v = {};
    std::memcpy(&v, p, size_t(std::min<int64_t>(n, kVec)) * sizeof(float));
    return v;
}
static void store_part(float * p, const vf & v, int64_t n) {
    std::memcpy(p, &v, size_t(std::min<int64_t>(n, kVec)) * sizeof(float));
}

ggml_tensor * Ops::geglu(ggml_tensor * gu) {
    return node(Engine::OTHER, gu->ne[0] / 2, gu->ne[1], {gu}, [](ggml_tensor * y, int ith, int nth) {
        const ggml_tensor * gu = y->src[0];
        const int64_t F = y->ne[0];
        const auto [begin, end] = share(y->ne[1], ith, nth, 1);
        for (int64_t t = begin; t < end; ++t) {
            const float *g = row(gu, t), *u = g + F;
            float * to = row(y, t);
            int64_t i = 0;
            for (; i + kVec <= F; i += kVec) {
                const vf x = vf_load(g + i);
                vf_store(to + i, x * gelu_sigmoid(x) * vf_load(u + i));
            }
            if (i < F) {
                const vf x = load_part(g + i, F - i);
                store_part(to + i, x * gelu_sigmoid(x) * load_part(u + i, F - i), F - i);
            }
        }
    });
}

static void geglu_back_at(const float * dy, const float * g, const float * u, float * dg, float * du, int64_t n) {
    const vf x = load_part(g, n), d = load_part(dy, n);
    const vf s = gelu_sigmoid(x);
    const vf slope = s + x * s * (1.0f - s) * kGelu2C * (1.0f + 3.0f * kGeluCubic * x * x);
    store_part(dg, d * load_part(u, n) * slope, n);
    store_part(du, d * x * s, n);
}

ggml_tensor * Ops::geglu_back(ggml_tensor * dy, ggml_tensor * gu) {
    return node(Engine::OTHER, gu->ne[0], gu->ne[1], {dy, gu}, [](ggml_tensor * dst, int ith, int nth) {
        const ggml_tensor *dy = dst->src[0], *gu = dst->src[1];
        const int64_t F = dy->ne[0];
        const auto [begin, end] = share(dst->ne[1], ith, nth, 1);
        for (int64_t t = begin; t < end; ++t) {
            const float *d = row(dy, t), *g = row(gu, t);
            float * to = row(dst, t);
            int64_t i = 0;
            for (; i + kVec <= F; i += kVec)
                geglu_back_at(d + i, g + i, g + F + i, to + i, to + F + i, kVec);
            if (i < F)
                geglu_back_at(d + i, g + i, g + F + i, to + i, to + F + i, F - i);
        }
    });
}

}  // namespace vg
