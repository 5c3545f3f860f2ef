// What gemm.cpp and the kernels compiled for one instruction set each share. Internal to gemm*.cpp.
//
// gemm_isa_impl.h is compiled several times, each time with other machine flags. Such a unit must not emit any function
// that another unit could link against, so it keeps everything in an anonymous namespace and uses no inline library
// code.
#pragma once

#include <stdint.h>

#include "ggml.h"

namespace vg {

// A matrix of rows, each contiguous.
struct GemmRows {
    const char * data;
    size_t row_bytes;
    ggml_type type;
};

// Y[m0..m1, n0..n1] of one thread. Element (m, n) is the sum over k of X(m, k) * B(k, n), where B(k, n) is row n,
// column k of `b`, or row k, column n of `b` when b_by_k is set.
struct GemmTask {
    GemmRows x;  // f32, row m
    GemmRows b;
    bool b_by_k;
    float * y;
    int64_t ldy;
    int64_t m0, m1, n0, n1, k;
    bool accumulate;
    float * scratch;
};

// G[i0..i1, 0..rb] += Σ_t X(t, i) * Z(t, j)
struct GemmOuterTask {
    const float * x;
    int64_t ldx;
    const float * z;
    int64_t ldz;
    float * g;
    int64_t ldg;
    int64_t t, i0, i1, rb;
    float * scratch;
};

struct GemmIsa {
    const char * name;
    int lanes;
    size_t scratch_bytes;
    void (*multiply)(const GemmTask & task);
    void (*outer)(const GemmOuterTask & task);
    int few;  // most rows of x for:
    void (*multiply_few)(const GemmTask & task);
};

// Null where the unit was compiled without its instruction set (another architecture or compiler).
const GemmIsa * gemm_isa_avx512();
const GemmIsa * gemm_isa_avx2();
const GemmIsa * gemm_isa_base();

// The sets this processor can run, best first, ended by null. For tests and benchmarks.
const GemmIsa * const * gemm_isas();

// Makes gemm() use the named set until called again; null returns to the best. False if this processor lacks it.
// Not to be called while a product runs.
bool gemm_force_kernel(const char * name);

}  // namespace vg
