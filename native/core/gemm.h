// Packed matrix product for the frozen weights: float32 arithmetic over weights stored as f32, f16, bf16 or q8_0.
// The micro-kernel is chosen at run time (AVX-512, AVX2+FMA, NEON, portable).
#pragma once

#include <cstddef>
#include <cstdint>

#include "ggml.h"
#include "share.h"

namespace vg {

struct GemmWeights {
    const void * data = nullptr;
    ggml_type type = GGML_TYPE_F32;
    size_t row_bytes = 0;  // distance of two rows
    int64_t rows = 0;      // R
    int64_t cols = 0;      // C, contiguous
};

// Types that both factors of gemm_stored() and the weights of gemm() may have. Rows of q8_0 have a multiple of 32
// columns.
inline bool gemm_takes(ggml_type type) {
    return type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16 || type == GGML_TYPE_Q8_0;
}

// transposed = false:  Y[M, R] = X[M, C] · Wᵀ      (a linear layer's forward)
// transposed = true:   Y[M, C] = X[M, R] · W       (its input gradient)
// X and Y are row-major float32 with row strides ldx, ldy (in floats). accumulate: Y += instead of Y =.
// Called by every one of nth threads with its own ith; threads share nothing and split Y (its columns; a narrow Y of
// many rows by rows). On one machine a row of Y depends only on its row of X and on W: to the last bit it is the same
// for any nth and any m. scratch: gemm_scratch_bytes() bytes of this thread's own, 64-byte aligned. Dimensions are 1 or
// more. Where ldx or ldy is a multiple of 1024 floats, a little padding saves cache conflicts (up to 10%).
void gemm(const GemmWeights & weights, bool transposed, const float * x, int64_t ldx, float * y, int64_t ldy, int64_t m,
          bool accumulate, int ith, int nth, void * scratch);

// Y[M, R] = X[M, C] · Wᵀ where X is stored like weights. Few rows of f32 (decoding) take another kernel, whose sums go
// along C in another order; so a row of Y can differ in its last bits between few and many rows, and in nothing else.
void gemm_stored(const GemmWeights & weights, const GemmWeights & x, float * y, int64_t ldy, int ith, int nth,
                 void * scratch);

// The part of a Y [m, n] that gemm() gives to a thread.
struct GemmPart {
    Range rows, columns;
};
GemmPart gemm_part(int64_t m, int64_t n, int ith, int nth);

// Columns [n0, n1) of Y alone, by the calling thread alone: y is the first element of the whole Y. n0 is a multiple of
// 16 where W is transposed and stored as q8_0.
void gemm_columns(const GemmWeights & weights, bool transposed, const float * x, int64_t ldx, float * y, int64_t ldy,
                  int64_t m, bool accumulate, int64_t n0, int64_t n1, void * scratch);

size_t gemm_scratch_bytes();

// G[ra, rb] += X[t, ra]ᵀ · Z[t, rb], row-major with row strides ldg, ldx, ldz: the gradient of a LoRA matrix. ra is
// shared out between the threads; the rest as for gemm().
void gemm_outer(const float * x, int64_t ldx, const float * z, int64_t ldz, float * g, int64_t ldg, int64_t t,
                int64_t ra, int64_t rb, int ith, int nth, void * scratch);

// Name of the kernel in use: "avx512", "avx2", "neon", "portable".
const char * gemm_kernel();

}  // namespace vg
