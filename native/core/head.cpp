#include "head.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "gemm.h"
#include "ops_internal.h"
#include "vec_math.h"

namespace vg {

static constexpr int64_t kChunk = 256;   // vocabulary rows between logits and expectation: they stay in the cache
static constexpr int64_t kRows = 256;    // hidden rows of a sweep; more go in several
static constexpr int64_t kColumns = 16;  // segments begin at whole cache lines of logits

Head::Head(const ggml_tensor * output, Engine & engine)
    : output_(output), engine_(engine),
      segment_rows_((output->ne[1] + kSegments * kColumns - 1) / (kSegments * kColumns) * kColumns) {}

static GemmWeights vocabulary_rows(const ggml_tensor * w, int64_t begin, int64_t n) {
    return {static_cast<const char *>(w->data) + size_t(begin) * w->nb[1], w->type, w->nb[1], n, w->ne[0]};
}

// Rows [first, first + rows) of a sweep.
struct Head::Block {
    const float * hidden;
    int64_t first, rows;
    float inverse;  // 1 / τ
    const Wanted & wanted;
    const std::vector<HeadTarget> & targets;
    const std::vector<size_t> & by_token;  // targets in the order of their tokens
    Sweep & out;
};

// Turns a row's logits of a chunk into e^(x - max) and adds their sums; returns by how much the former sums shrink.
static double add_row(const float * logits, float * exps, int64_t n, float inverse, PartialSum & total,
                      double & weighted) {
    float top = total.max;
    for (int64_t c = 0; c < n; ++c)
        top = std::max(top, logits[c] * inverse);
    const double shrink = std::exp(double(total.max) - double(top));  // 0 at the first chunk
    double sum = 0, weighted_sum = 0;
    for (int64_t c = 0; c < n; c += kVec) {
        const auto k = std::min<int64_t>(kVec, n - c);
        vf x = {};
        std::memcpy(&x, logits + c, size_t(k) * sizeof(float));
        x *= inverse;
        vf e = vf_exp(x - top);
        for (int64_t j = k; j < kVec; ++j)
            e[j] = 0;
        sum += double(vf_sum(e));
        weighted_sum += double(vf_sum(e * x));
        std::memcpy(exps + c, &e, size_t(k) * sizeof(float));
    }
    total = {top, total.sum * shrink + sum};
    weighted = weighted * shrink + weighted_sum;
    return shrink;
}

void Head::sweep_segment(const Block & b, int segment, void * scratch) {
    const ggml_tensor * w = output_;
    const int64_t D = w->ne[0], V = w->ne[1], R = b.rows;
    const int64_t begin = std::min(V, segment * segment_rows_), end = std::min(V, begin + segment_rows_);
    float * exps = static_cast<float *>(scratch);  // [R, kChunk]
    void * gemm_scratch = exps + kRows * kChunk;
    PartialSum * partial = partial_.data() + segment * kRows;
    double * weighted = weighted_.data() + segment * kRows;
    float * expectation = b.wanted.expectation ? expectation_.data() + segment * kRows * D : nullptr;
    std::fill(partial, partial + R, PartialSum{-INFINITY, 0});
    std::fill(weighted, weighted + R, 0.0);
    if (expectation)
        std::fill(expectation, expectation + R * D, 0.0f);

    for (int64_t c = begin; c < end; c += kChunk) {
        const int64_t n = std::min(kChunk, end - c);
        const auto rows = vocabulary_rows(w, c, n);
        float * logits = b.wanted.logits ? b.wanted.logits + b.first * V + c : exps;
        const int64_t stride = b.wanted.logits ? V : kChunk;
        gemm_columns(rows, false, b.hidden + b.first * D, D, logits, stride, R, false, 0, n, gemm_scratch);

        const auto before = [&](size_t i, int64_t token) { return b.targets[i].token < token; };
        for (auto i = std::lower_bound(b.by_token.begin(), b.by_token.end(), c, before);
             i != b.by_token.end() && b.targets[*i].token < c + n; ++i) {
            const int64_t row = b.targets[*i].row - b.first;
            if (row >= 0 && row < R) {
                b.out.target_logits[*i] = double(logits[row * stride + b.targets[*i].token - c]) * double(b.inverse);
            }
        }
        for (int64_t r = 0; r < R; ++r) {
            const double shrink =
                add_row(logits + r * stride, exps + r * kChunk, n, b.inverse, partial[r], weighted[r]);
            if (expectation && shrink != 1.0) {
                for (int64_t d = 0; d < D; ++d)
                    expectation[r * D + d] *= float(shrink);
            }
        }
        if (expectation)
            gemm_columns(rows, true, exps, kChunk, expectation, D, R, true, 0, D, gemm_scratch);
    }
}

void Head::merge(const Block & b, int64_t r) {
    const int64_t D = output_->ne[0], row = b.first + r;
    PartialSum * segments = b.out.segments.data() + row * kSegments;
    float max = -INFINITY;
    for (int s = 0; s < kSegments; ++s) {
        segments[s] = partial_[size_t(s * kRows + r)];
        max = std::max(max, segments[s].max);
    }
    double factors[kSegments], sum = 0, weighted = 0;
    for (int s = 0; s < kSegments; ++s) {
        factors[s] = std::exp(double(segments[s].max) - double(max));
        sum += segments[s].sum * factors[s];
        weighted += weighted_[size_t(s * kRows + r)] * factors[s];
    }
    b.out.lse[size_t(row)] = double(max) + std::log(sum);
    b.out.entropy[size_t(row)] = b.out.lse[size_t(row)] - weighted / sum;
    if (!b.wanted.expectation)
        return;
    float * to = b.out.expectation.data() + row * D;
    for (int s = 0; s < kSegments; ++s) {
        const float factor = float(factors[s] / sum);
        if (factor == 0)
            continue;  // an empty segment, or one too unlikely to count
        const float * from = expectation_.data() + (s * kRows + r) * D;
        for (int64_t d = 0; d < D; ++d)
            to[d] += factor * from[d];
    }
}

Head::Sweep Head::sweep(const float * hidden, int64_t R, const std::vector<HeadTarget> & targets, double temperature,
                        const Wanted & wanted) {
    const int64_t D = output_->ne[0], V = output_->ne[1];
    Sweep out;
    out.lse.resize(size_t(R));
    out.entropy.resize(size_t(R));
    out.target_logits.resize(targets.size());
    out.segments.resize(size_t(R * kSegments));
    partial_.resize(size_t(kSegments * kRows));
    weighted_.resize(size_t(kSegments * kRows));
    if (wanted.expectation) {
        out.expectation.assign(size_t(R * D), 0.0f);
        expectation_.resize(size_t(kSegments * kRows * D));
    }
    std::vector<size_t> by_token(targets.size());
    for (size_t i = 0; i < by_token.size(); ++i)
        by_token[i] = i;
    std::sort(by_token.begin(), by_token.end(),
              [&](size_t a, size_t b) { return targets[a].token < targets[b].token; });

    engine_.reserve_scratch(gemm_scratch_bytes() + size_t(kRows * kChunk) * sizeof(float));
    for (int64_t first = 0; first < R; first += kRows) {
        const Block block = {hidden,   first, std::min(kRows, R - first), float(1 / temperature), wanted, targets,
                             by_token, out};
        const double work = (wanted.expectation ? 4.0 : 2.0) * double(D * V * block.rows);
        std::atomic<int> next{0};
        engine_.parallel(work, [&](int ith, int) {
            for (int s = next++; s < kSegments; s = next++)
                sweep_segment(block, s, engine_.scratch(ith));
        });
        engine_.parallel(double(block.rows * D) * (wanted.expectation ? 2 * kSegments : 1), [&](int ith, int nth) {
            for (int64_t r = ith; r < block.rows; r += nth)
                merge(block, r);
        });
    }
    return out;
}

std::vector<float> Head::backward(const Sweep & sweep, int64_t R, const std::vector<HeadTarget> & targets,
                                  const std::vector<double> & slopes, double temperature) const {
    const int64_t D = output_->ne[0];
    std::vector<float> dh(size_t(R * D), 0.0f), row(static_cast<size_t>(D));
    std::vector<double> total(size_t(R), 0.0);
    for (size_t i = 0; i < targets.size(); ++i) {
        const float c = float(slopes[i] / temperature);
        if (c == 0)
            continue;
        stored_row(output_, targets[i].token, row.data());
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
