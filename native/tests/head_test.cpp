// The output head and the sampler that reads what it found.
#include <algorithm>

#include "evaluation.h"
#include "head.h"
#include "sampler.h"

using namespace vg;
using namespace vg::test;

// d Σ slope·logp / d hidden, over more vocabulary rows than one chunk.
TEST(head_gradient) {
    const int64_t D = 12, V = 9001, R = 3;
    Engine engine(2);
    Context ctx = make_context(1);
    ggml_tensor * w = ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, D, V);
    const Buffer buffer = engine.allocate(ctx.get(), "the test");
    const auto values = numbers(D * V, 1);
    ggml_backend_tensor_set(w, values.data(), 0, ggml_nbytes(w));
    Head head(w, engine);
    const std::vector<HeadTarget> targets = {{0, 5, 0}, {0, 8999, 1}, {1, 8192, 2}, {2, 0, 3}};
    const std::vector<double> slopes = {0.7, -1.1, 0.4, 2.0};
    const double temperature = 0.7;
    auto hidden = numbers(D * R, 2);

    const auto objective = [&](const Values & h) {
        double total = 0;
        for (size_t i = 0; i < targets.size(); ++i) {
            std::vector<double> l(static_cast<size_t>(V));
            double max = -1e30, sum = 0;
            for (int64_t v = 0; v < V; ++v) {
                double dot = 0;
                for (int64_t d = 0; d < D; ++d)
                    dot += double(values[size_t(v * D + d)]) * double(h[size_t(targets[i].row * D + d)]);
                l[size_t(v)] = dot / temperature;
                max = std::max(max, l[size_t(v)]);
            }
            for (const double x : l)
                sum += std::exp(x - max);
            total += slopes[i] * (l[size_t(targets[i].token)] - max - std::log(sum));
        }
        return total;
    };
    const auto sweep = head.sweep(hidden.data(), R, targets, temperature, {true, nullptr});
    double ours = 0;
    for (size_t i = 0; i < targets.size(); ++i)
        ours += slopes[i] * (sweep.target_logits[i] - sweep.lse[size_t(targets[i].row)]);
    CHECK_CLOSE(ours, objective(hidden), 1e-5);
    const auto gradient = head.backward(sweep, R, targets, slopes, temperature);
    for (size_t i = 0; i < hidden.size(); ++i) {
        auto moved = hidden;
        const double h = 1e-3;
        moved[i] = float(double(hidden[i]) + h);
        const double up = objective(moved), hu = double(moved[i]) - double(hidden[i]);
        moved[i] = float(double(hidden[i]) - h);
        const double down = objective(moved), hd = double(hidden[i]) - double(moved[i]);
        CHECK_CLOSE(double(gradient[i]), (up - down) / (hu + hd), 1e-4);
    }
}

TEST(sampler_follows_the_distribution) {
    const int64_t V = 37;
    const auto logits = numbers(V, 9, 3);
    SamplerOptions options;
    options.temperature = 0.8;
    // What the head's sweep would have found, in parts of 10.
    const auto parts_at = [&](double temperature) {
        std::vector<PartialSum> parts;
        for (int64_t begin = 0; begin < 50; begin += 10) {
            PartialSum part = {-INFINITY, 0};
            for (int64_t v = begin; v < std::min(V, begin + 10); ++v)
                part.max = std::max(part.max, float(double(logits[size_t(v)]) / temperature));
            for (int64_t v = begin; v < std::min(V, begin + 10); ++v)
                part.sum += std::exp(double(logits[size_t(v)]) / temperature - double(part.max));
            parts.push_back(part);
        }
        return parts;
    };
    const auto parts = parts_at(options.temperature), cold = parts_at(1);
    const SampledRow row = {logits.data(), V, parts.data(), 5, 10};
    std::vector<double> p(V);
    double sum = 0;
    for (int64_t v = 0; v < V; ++v)
        sum += p[size_t(v)] = std::exp(double(logits[size_t(v)]) / options.temperature);
    // Sweeping u evenly visits each token in proportion to its probability.
    const int n = 200000;
    std::vector<int> count(V);
    for (int i = 0; i < n; ++i) {
        const auto s = sample(row, options, (i + 0.5) / n);
        ++count[size_t(s)];
    }
    for (int64_t v = 0; v < V; ++v)
        CHECK_CLOSE(double(count[size_t(v)]) / n, p[size_t(v)] / sum, 2e-5);

    options.top_k = 3;
    for (int i = 0; i < 100; ++i) {
        const auto s = sample(row, options, i / 100.0);
        int above = 0;
        for (int64_t v = 0; v < V; ++v)
            above += logits[size_t(v)] > logits[size_t(s)];
        CHECK(above < 3);
    }
    options.top_k = 0, options.top_p = 0.5;
    for (int i = 0; i < 100; ++i) {
        const auto s = sample(row, options, i / 100.0);
        double above = 0;
        for (int64_t v = 0; v < V; ++v) {
            if (logits[size_t(v)] > logits[size_t(s)])
                above += p[size_t(v)] / sum;
        }
        CHECK(above < 0.5);
    }
    options.temperature = 0;
    CHECK(sample({logits.data(), V, cold.data(), 5, 10}, options, 0.99) ==
          std::max_element(logits.begin(), logits.end()) - logits.begin());
}
