// Measures the packed product by itself, for `voicegrpo bench`.
#pragma once

#include <cstdint>

#include "engine.h"

namespace vg {

struct ProductShape {
    ggml_type type = GGML_TYPE_F32;
    bool transposed = false;  // as in gemm.h
    int64_t m = 1, n = 1, k = 1;
    int threads = 1;
    double seconds = 0.1;
};

struct ProductRate {
    double gflops = 0, best = 0;  // median and fastest
    int64_t repetitions = 0;
};

// Cycles through copies of the matrix that together exceed the caches, as a model's layers do.
// Throws E_LIMIT without memory, E_ABORTED.
ProductRate measure_product(const ProductShape & shape, const AbortFlag * abort);

}  // namespace vg
