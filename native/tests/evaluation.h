// Graphs of single operations, and their gradients against finite differences.
#pragma once

#include <cmath>
#include <functional>
#include <vector>

#include "engine.h"
#include "ops.h"
#include "philox.h"
#include "test.h"

namespace vg::test {

using Values = std::vector<float>;

// Uniform in ±scale, the same on every machine.
inline Values numbers(int64_t n, uint32_t stream, float scale = 1) {
    Values out(static_cast<size_t>(n));
    for (size_t i = 0; i < out.size(); ++i)
        out[i] = scale * float(2 * philox_uniform(7, uint32_t(i), stream, 0, 0) - 1);
    return out;
}

// A graph built anew for every evaluation over named inputs; `build` returns the output tensor.
struct Evaluation {
    Engine engine{2};
    std::vector<Values> inputs;
    std::vector<int64_t> widths;  // ne[0] of each input

    using Build = std::function<ggml_tensor *(Ops &, const std::vector<ggml_tensor *> &)>;

    Values run(const Build & build) {
        Context ctx = make_context(256, 256);
        Ops ops(engine, ctx.get());
        std::vector<ggml_tensor *> tensors;
        for (size_t i = 0; i < inputs.size(); ++i) {
            tensors.push_back(
                ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, widths[i], int64_t(inputs[i].size()) / widths[i]));
            ggml_set_input(tensors.back());
        }
        ggml_tensor * out = build(ops, tensors);
        ggml_set_output(out);
        ggml_cgraph * graph = ggml_new_graph_custom(ctx.get(), 256, false);
        ggml_build_forward_expand(graph, out);
        engine.place(graph);
        for (size_t i = 0; i < inputs.size(); ++i) {
            if (tensors[i]->data)
                ggml_backend_tensor_set(tensors[i], inputs[i].data(), 0, ggml_nbytes(tensors[i]));
        }
        engine.run(graph, 1e9);
        Values result(size_t(ggml_nelements(out)));
        ggml_backend_tensor_get(out, result.data(), 0, ggml_nbytes(out));
        return result;
    }

    // Checks d(Σ dy·y)/d input along a random direction: `back` gives the gradient for input `which` from dy, the last
    // input.
    void check_gradient(size_t which, const Build & forward, const Build & back, uint32_t stream,
                        double tolerance = 2e-3) {
        const Values direction = numbers(int64_t(inputs[which].size()), stream + 1000);
        const Values dy = inputs.back();
        const auto along = [&](double h) {
            const Values saved = inputs[which];
            for (size_t i = 0; i < saved.size(); ++i)
                inputs[which][i] = float(double(saved[i]) + h * double(direction[i]));
            const Values y = run(forward);
            inputs[which] = saved;
            double sum = 0;
            for (size_t i = 0; i < y.size(); ++i)
                sum += double(dy[i]) * double(y[i]);
            return sum;
        };
        const double h = 5e-3;
        const double numeric = (8 * (along(h) - along(-h)) - (along(2 * h) - along(-2 * h))) / (12 * h);
        const Values gradient = run(back);
        double analytic = 0, size = 0;
        for (size_t i = 0; i < direction.size(); ++i) {
            analytic += double(gradient[i]) * double(direction[i]);
            size += std::fabs(double(gradient[i]) * double(direction[i]));
        }
        CHECK(size > 1e-3);  // a gradient of zeros would agree with anything flat
        CHECK_CLOSE(analytic / size, numeric / size, tolerance);
    }
};

}  // namespace vg::test
