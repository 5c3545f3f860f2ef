#include "product_benchmark.h"

#include <algorithm>
#include <vector>

#include "gemm.h"
#include "stopwatch.h"

namespace vg {

static constexpr size_t kBeyondCaches = size_t(256) << 20;
static constexpr size_t kFewest = 5;  // repetitions

ProductRate measure_product(const ProductShape & shape, const AbortFlag * abort) {
    Engine engine(shape.threads);
    engine.set_abort(abort);
    const int64_t rows = shape.transposed ? shape.k : shape.n, cols = shape.transposed ? shape.n : shape.k;
    const size_t bytes = ggml_row_size(shape.type, cols) * size_t(rows);
    const size_t copies = std::max<size_t>(1, std::min<size_t>(64, kBeyondCaches / bytes));

    Context ctx = make_context(copies);
    std::vector<ggml_tensor *> matrices;
    for (size_t i = 0; i < copies; ++i)
        matrices.push_back(ggml_new_tensor_2d(ctx.get(), shape.type, cols, rows));
    const Buffer buffer = engine.allocate(ctx.get(), "the matrices of the measurement");
    // The values do not matter for the time, as long as they are ordinary: sums of 0 and 1 / 256 stay small.
    std::vector<float> values(size_t(cols * rows));
    for (size_t i = 0; i < values.size(); ++i)
        values[i] = float(i * 2654435761u >> 31) / 256;
    std::vector<char> stored(bytes);
    ggml_quantize_chunk(shape.type, values.data(), stored.data(), 0, rows, cols, nullptr);
    for (ggml_tensor * t : matrices)
        ggml_backend_tensor_set(t, stored.data(), 0, bytes);

    std::vector<float> x(size_t(shape.m * shape.k), 0.5f), y(size_t(shape.m * shape.n));
    const auto weights = [&](size_t i) {
        const ggml_tensor * w = matrices[i % copies];
        return GemmWeights{w->data, w->type, w->nb[1], w->ne[1], w->ne[0]};
    };
    engine.reserve_scratch(gemm_scratch_bytes());
    const double flops = 2.0 * double(shape.m) * double(shape.n) * double(shape.k);
    std::vector<double> rates;
    double spent = 0;
    for (size_t i = 0; i < kFewest || spent < shape.seconds; ++i) {
        Stopwatch watch;
        engine.parallel(flops, [&](int ith, int nth) {
            gemm(weights(i), shape.transposed, x.data(), shape.k, y.data(), shape.n, shape.m, false, ith, nth,
                 engine.scratch(ith));
        });
        const double seconds = watch.lap();
        spent += seconds;
        if (i > 0)  // the first one touches memory for the first time
            rates.push_back(flops / seconds / 1e9);
    }
    std::sort(rates.begin(), rates.end());
    return {rates[rates.size() / 2], rates.back(), int64_t(rates.size())};
}

}  // namespace vg
