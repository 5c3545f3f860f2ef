// The head's, the sampler's and the adapter's CUDA kernels on the emulator, against the CPU's Head, sample() and the
// formulas.
#include <numeric>

#include "cuda_arrays.h"
#include "evaluation.h"
#include "head.h"
#include "sampler.h"

using namespace vg;
using namespace vg::test;

namespace {

// The sweep as a device makes it: chunk by chunk, the expectation continued, products by plain loops.
struct DeviceSweep {
    std::vector<DevicePartial> total, parts;
    Values expectation, logits;
    std::vector<double> target_logits;
};
DeviceSweep sweep(const Values & w, const Values & hidden, int64_t D, int64_t V, int64_t R, int64_t part,
                  const std::vector<HeadTarget> & targets, float inverse) {
    const int segments = int((V + part - 1) / part);
    std::vector<int32_t> target_rows, tokens;
    for (const auto & t : targets) {
        target_rows.push_back(t.row);
        tokens.push_back(t.token);
    }
    const Ints row_of(target_rows), token_of(tokens);
    Floats logits{size_t(R * V)}, exps{size_t(R * part)}, e(Values(size_t(R * D), 0.0f));
    Array<DevicePartial> total{size_t(R)}, parts{size_t(R) * size_t(segments)};
    Array<double> picked{targets.size()};
    const auto & k = kernels();
    for (int s = 0; s < segments; ++s) {
        const int64_t c = s * part, n = std::min(part, V - c);
        for (int64_t r = 0; r < R; ++r) {
            for (int64_t v = 0; v < n; ++v)
                logits.data[r * V + c + v] = std::inner_product(&hidden[size_t(r * D)], &hidden[size_t(r * D)] + D,
                                                                &w[size_t((c + v) * D)], 0.0f);
        }
        const DeviceRows chunk = {logits.data + c, V};
        k.head_chunk(nullptr, chunk, exps.data, part, total.data, parts.data + s, segments, R, n, inverse, s == 0);
        k.head_pick(nullptr, chunk, row_of.data, token_of.data, picked.data, int64_t(targets.size()), 0, R, c, n,
                    inverse);
        k.head_scale(nullptr, e.data, total.data, R, D, false);
        for (int64_t r = 0; r < R; ++r) {
            for (int64_t v = 0; v < n; ++v) {
                for (int64_t d = 0; d < D; ++d)
                    e.data[r * D + d] += exps.data[r * part + v] * w[size_t((c + v) * D + d)];
            }
        }
    }
    k.head_scale(nullptr, e.data, total.data, R, D, true);
    return {total.values(), parts.values(), e.values(), logits.values(), picked.values()};
}

}  // namespace

TEST(head_of_a_device) {
    const int64_t D = 12, V = 2001, R = 3, part = 300;
    const auto w = numbers(D * V, 1, 3), hidden = numbers(D * R, 2, 2);
    const std::vector<HeadTarget> targets = {{0, 5, 0}, {0, 2000, 1}, {1, 300, 2}, {2, 0, 3}};
    const std::vector<double> slopes = {0.7, -1.1, 0.4, 2.0};
    const double temperature = 0.7;
    Engine engine(2);
    Context ctx = make_context(1);
    ggml_tensor * matrix = ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, D, V);
    const Buffer buffer = engine.allocate(ctx.get(), "the test");
    ggml_backend_tensor_set(matrix, w.data(), 0, ggml_nbytes(matrix));
    Head head(matrix, engine);
    const auto want = head.sweep(hidden.data(), R, targets, temperature, {true, nullptr});
    const auto got = sweep(w, hidden, D, V, R, part, targets, float(1 / temperature));
    for (size_t r = 0; r < size_t(R); ++r) {
        const double lse = double(got.total[r].max) + std::log(got.total[r].sum);
        CHECK_CLOSE(lse, want.lse[r], 1e-6);
        CHECK_CLOSE(lse - got.total[r].weighted / got.total[r].sum, want.entropy[r], 1e-5);
    }
    for (size_t i = 0; i < targets.size(); ++i)
        CHECK_CLOSE(got.target_logits[i], want.target_logits[i], 1e-6);
    check_same(got.expectation, want.expectation, 5e-6);

    const auto gradient = head.backward(want, R, targets, slopes, temperature);
    std::vector<double> over;
    for (const double s : slopes)
        over.push_back(s / temperature);
    const Floats weights(w), expectation(got.expectation);
    const Ints first({0, 2, 3, 4}), order({0, 1, 2, 3}), tokens({5, 2000, 300, 0});
    const Array<double> slope(over);
    Floats dh{size_t(R * D)};
    kernels().head_backward(nullptr, {weights.data, D, false}, expectation.data, first.data, order.data, tokens.data,
                            slope.data, dh.data, R, D);
    check_same(dh.values(), gradient, 2e-5);
}

TEST(logits_that_are_not_finite_are_seen_by_a_device) {
    const int64_t D = 1, V = 600;
    for (const float bad : {NAN, INFINITY}) {
        auto w = numbers(V, 1);
        w[420] = bad;
        const auto got = sweep(w, {1}, D, V, 1, 300, {{0, 5, 0}}, 1);
        CHECK(!std::isfinite(double(got.total[0].max) + std::log(got.total[0].sum)));
    }
}

TEST(sampling_of_a_device) {
    const int64_t D = 4, V = 2001, R = 2, part = 300;
    const auto w = numbers(D * V, 3, 3), hidden = numbers(D * R, 4, 2);
    SamplerOptions options;
    options.temperature = 0.8;
    const float inverse = float(1 / options.temperature);
    const auto found = sweep(w, hidden, D, V, R, part, {{0, 0, 0}}, inverse);
    const int segments = 7;
    std::vector<DeviceDraw> draws;
    for (int i = 0; i < 40; ++i)
        draws.push_back({(i / 2 + 0.5) / 20, i % 2, -1});
    draws.push_back({0, 1, 1234});
    draws.push_back({std::nextafter(1.0, 0.0), 1, -1});
    const Floats logits(found.logits);
    const Array<DevicePartial> parts(found.parts);
    const Array<DeviceDraw> wanted(draws);
    Array<DeviceChoice> chosen{draws.size()};
    for (const bool greedy : {false, true}) {
        kernels().draw(nullptr, rows(logits, V), parts.data, segments, part, V, wanted.data, chosen.data,
                       int64_t(draws.size()), inverse, greedy);
        options.temperature = greedy ? 0 : 0.8;
        for (size_t i = 0; i < draws.size(); ++i) {
            const auto & d = draws[i];
            std::vector<PartialSum> own;
            for (int s = 0; s < segments; ++s) {
                const auto & p = found.parts[size_t(d.row * segments + s)];
                own.push_back({p.max, p.sum});
            }
            const float * row = found.logits.data() + d.row * V;
            const int32_t token = d.given >= 0 ? d.given : sample({row, V, own.data(), segments, part}, options, d.u);
            CHECK(chosen.data[i].token == token);
            CHECK_CLOSE(chosen.data[i].logit, double(row[token]) * double(inverse), 1e-12);
        }
    }
    // The lowest index wins ties.
    const Floats flat(Values(size_t(V), 0.25f));
    kernels().draw(nullptr, rows(flat, 0), parts.data, segments, part, V, wanted.data, chosen.data, 1, inverse, true);
    CHECK(chosen.data[0].token == 0);
}

TEST(adamw_of_a_device) {
    const std::vector<int64_t> sizes = {7, 1000, 256};
    std::vector<std::unique_ptr<Floats>> arrays;
    std::vector<DeviceParameter> list;
    Values before[3][4];
    for (size_t i = 0; i < sizes.size(); ++i) {
        float * at[4];
        for (uint32_t j = 0; j < 4; ++j) {
            before[i][j] = numbers(sizes[i], uint32_t(i) * 4 + j);
            if (j == 3) {
                for (float & v : before[i][j])
                    v = std::fabs(v);
            }
            arrays.push_back(std::make_unique<Floats>(before[i][j]));
            at[j] = arrays.back()->data;
        }
        list.push_back({at[0], at[1], at[2], at[3], sizes[i]});
    }
    const Array<DeviceParameter> parameters(list);
    Array<double> sums{3};
    Array<uint64_t> hashes{3}, again{3};
    const auto & k = kernels();
    k.square_sums(nullptr, parameters.data, sums.data, 3);
    for (size_t i = 0; i < 3; ++i) {
        double sum = 0;
        for (const float g : before[i][1])
            sum += double(g) * double(g);
        CHECK_CLOSE(sums.data[i], sum, 1e-12);
    }
    k.hash(nullptr, parameters.data, hashes.data, 3);
    const DeviceAdamW o = {
        1e-2, 0.9, 0.99, 1e-8, 1 - 1e-2 * 0.1, 0.5, 1 - std::pow(0.9, 3), std::sqrt(1 - std::pow(0.99, 3))};
    k.adamw(nullptr, parameters.data, 3, 1000, o);
    k.hash(nullptr, parameters.data, again.data, 3);
    for (size_t i = 0; i < 3; ++i) {
        CHECK(hashes.data[i] != again.data[i]);
        for (size_t j = 0; j < size_t(sizes[i]); ++j) {
            const double g = double(before[i][1][j]) * 0.5, a = 0.9 * double(before[i][2][j]) + 0.1 * g;
            const double s = 0.99 * double(before[i][3][j]) + 0.01 * g * g;
            const double p =
                double(before[i][0][j]) * o.decay - 1e-2 / o.correction1 * a / (std::sqrt(s) / o.correction2 + 1e-8);
            CHECK_CLOSE(double(list[i].exp_avg[j]), a, 1e-7);
            CHECK_CLOSE(double(list[i].exp_avg_sq[j]), s, 1e-7);
            CHECK_CLOSE(double(list[i].value[j]), p, 1e-7);
        }
    }
    // Two equal values in other places, and one bit, make another hash.
    std::swap(list[1].value[3], list[1].value[4]);
    k.hash(nullptr, parameters.data, hashes.data, 3);
    CHECK(hashes.data[1] != again.data[1] && hashes.data[0] == again.data[0]);
}
