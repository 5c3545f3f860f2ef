#include "head.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "gemm.h"
#include "vec_math.h"

namespace vg {

// Vocabulary rows at a time: the chunk's logits of a few hundred positions stay in the second-level cache's reach.
static constexpr int64_t kChunk = 8192;

Head::Head(const ggml_tensor * output, Engine & engine) : output_(output), engine_(engine) {}

static GemmWeights vocabulary_rows(const ggml_tensor * w, int64_t begin, int64_t n) {
    return {static_cast<const char *>(w->data) + size_t(begin) * w->nb[1], w->type, w->nb[1], n, w->ne[0]};
}

void Head::logits(const float * hidden, int64_t rows, float * out) {
    const ggml_tensor * w = output_;
    const int64_t D = w->ne[0], V = w->ne[1];
    const double work = 2.0 * double(D * V * rows);
    const auto all = vocabulary_rows(w, 0, V);
    engine_.reserve_scratch(gemm_scratch_bytes(rows, all, false));
    engine_.parallel(work, [&](int ith, int nth) {
        gemm(all, false, hidden, D, out, V, rows, false, ith, nth, engine_.scratch(ith));
    });
}

Head::Sweep Head::sweep(const float * hidden, int64_t R, const std::vector<HeadTarget> & targets, double temperature,
                        bool expectation) {
    const ggml_tensor * w = output_;
    const int64_t D = w->ne[0], V = w->ne[1];
    const double work = 2.0 * double(D * R * std::min(kChunk, V));
    const float inverse = float(1 / temperature);
    Sweep out;
    out.target_logits.resize(targets.size());
    if (expectation)
        out.expectation.assign(size_t(R * D), 0.0f);

    std::vector<float> max(size_t(R), -INFINITY), logits(size_t(R * std::min(kChunk, V)));
    std::vector<double> sum(size_t(R), 0.0), weighted(size_t(R), 0.0);  // Σ e^(l-max), Σ e^(l-max)·l
    const auto first = vocabulary_rows(w, 0, std::min(kChunk, V));
    engine_.reserve_scratch(std::max(gemm_scratch_bytes(R, first, false), gemm_scratch_bytes(R, first, true)));

    for (int64_t begin = 0; begin < V; begin += kChunk) {
        const int64_t n = std::min(kChunk, V - begin);
        const auto rows = vocabulary_rows(w, begin, n);
        engine_.parallel(work, [&](int ith, int nth) {
            gemm(rows, false, hidden, D, logits.data(), n, R, false, ith, nth, engine_.scratch(ith));
        });
        for (size_t i = 0; i < targets.size(); ++i) {
            const auto & t = targets[i];
            if (t.token >= begin && t.token < begin + n) {
                out.target_logits[i] = double(logits[size_t(t.row * n + t.token - begin)]) * double(inverse);
            }
        }
        engine_.parallel(work, [&](int ith, int nth) {
            for (int64_t r = R * ith / nth; r < R * (ith + 1) / nth; ++r) {
                float * l = logits.data() + r * n;
                float top = max[size_t(r)];
                for (int64_t c = 0; c < n; ++c)
                    top = std::max(top, l[c] * inverse);
                const double shrink = std::exp(double(max[size_t(r)]) - double(top));  // 0 at the first chunk
                double s = 0, ws = 0;
                for (int64_t c = 0; c < n; c += kVec) {
                    vf x = vf_set(-INFINITY);
                    const auto k = std::min<int64_t>(kVec, n - c);
                    std::memcpy(&x, l + c, size_t(k) * sizeof(float));
                    x *= inverse;
                    vf e = vf_exp(x - top);
                    if (k < kVec) {
                        for (int64_t j = k; j < kVec; ++j)
                            e[j] = 0, x[j] = 0;
                    }
                    s += double(vf_sum(e));
                    ws += double(vf_sum(e * x));
                    std::memcpy(l + c, &e, size_t(k) * sizeof(float));
                }
                sum[size_t(r)] = sum[size_t(r)] * shrink + s;
                weighted[size_t(r)] = weighted[size_t(r)] * shrink + ws;
                max[size_t(r)] = top;
                if (expectation && shrink != 1.0) {
                    float * acc = out.expectation.data() + r * D;
                    for (int64_t d = 0; d < D; ++d)
                        acc[d] *= float(shrink);
                }
            }
        });
        if (expectation) {
            engine_.parallel(work, [&](int ith, int nth) {
                gemm(rows, true, logits.data(), n, out.expectation.data(), D, R, true, ith, nth, engine_.scratch(ith));
            });
        }
    }

    out.lse.resize(size_t(R));
    out.entropy.resize(size_t(R));
    for (size_t r = 0; r < size_t(R); ++r) {
        out.lse[r] = double(max[r]) + std::log(sum[r]);
        out.entropy[r] = out.lse[r] - weighted[r] / sum[r];
        if (expectation) {
            for (int64_t d = 0; d < D; ++d)
                out.expectation[r * size_t(D) + size_t(d)] /= float(sum[r]);
        }
    }
    return out;
}

std::vector<float> Head::backward(const Sweep & sweep, int64_t R, const std::vector<HeadTarget> & targets,
                                  const std::vector<double> & slopes, double temperature) const {
    const ggml_tensor * w = output_;
    const int64_t D = w->ne[0];
    const auto * traits = ggml_get_type_traits(w->type);
    std::vector<float> dh(size_t(R * D), 0.0f), row(static_cast<size_t>(D));
    std::vector<double> total(size_t(R), 0.0);
    for (size_t i = 0; i < targets.size(); ++i) {
        const float c = float(slopes[i] / temperature);
        if (c == 0)
            continue;
        const char * source = static_cast<const char *>(w->data) + size_t(targets[i].token) * w->nb[1];
        if (w->type == GGML_TYPE_F32) {
            std::memcpy(row.data(), source, size_t(D) * sizeof(float));
        } else {
            traits->to_float(source, row.data(), D);
        }
        float * to = dh.data() + targets[i].row * D;
        for (int64_t d = 0; d < D; ++d)
            to[d] += c * row[size_t(d)];
        total[size_t(targets[i].row)] += slopes[i] / temperature;
    }
    for (int64_t r = 0; r < R; ++r) {
        const float c = float(total[size_t(r)]);
        if (c == 0)
            continue;
        for (int64_t d = 0; d < D; ++d)
            dh[size_t(r * D + d)] -= c * sweep.expectation[size_t(r * D + d)];
    }
    return dh;
}

}  // namespace vg
