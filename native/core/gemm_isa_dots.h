// The product for few rows of x, as in decoding: every stored row of W is read once, in its own order, and multiplied
// with all rows of x while it is in registers. Nothing is packed. Part of gemm_isa_impl.h.
#pragma once

#include "gemm_isa_vectors.h"

namespace vg {
namespace {

constexpr int MAX_DOTS = 8;  // rows of x

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int DOT_SUMS = 24;  // that stay in registers
#else
constexpr int DOT_SUMS = 12;
#endif

constexpr int dot_rows(int m) { return DOT_SUMS / m > 8 ? 8 : DOT_SUMS / m > 0 ? DOT_SUMS / m : 1; }

// Lane i of v[0] becomes the sum of the lanes of v[i], for L vectors: each round adds the halves of vector i beside
// those of vector i + N/2.
template <int N = L> inline __attribute__((always_inline)) void sum_lanes(vf * v) {
#pragma GCC unroll 16
    for (int i = 0; i < N / 2; i++) {
        v[i] = interleave_lo(v[i], v[i + N / 2]) + interleave_hi(v[i], v[i + N / 2]);
    }
    if constexpr (N > 2) {
        sum_lanes<N / 2>(v);
    }
}

// flat[i] = the sum of the lanes of sums[i], for the C sums from FIRST on. C is known to the compiler, so that the sums
// stay in registers.
template <int C, int FIRST = 0> inline __attribute__((always_inline)) void put_sums(const vf * sums, float * flat) {
    vf v[L];
#pragma GCC unroll 16
    for (int i = 0; i < L; i++) {
        v[i] = FIRST + i < C ? sums[FIRST + i] : vf{};
    }
    sum_lanes(v);
    store(flat + FIRST, v[0]);
    if constexpr (FIRST + L < C) {
        put_sums<C, FIRST + L>(sums, flat);
    }
}

// Columns c..c+n of a stored row, n < L, and zeros. Out of line: the loop before it keeps the registers.
template <int TYPE> __attribute__((noinline)) vf read_rest(const char * row, int64_t c, int64_t n) {
    float rest[L] = {};
    read_row_as<TYPE>(row, c, n, rest);
    return load(rest);
}

// y[m * ldy + r] = row r of w · row m of x, for R rows of w. A sum is taken lane by lane along k and then over the
// lanes, whatever M and R are.
template <int TYPE, int M, int R>
void dots(const char * w, int64_t row_bytes, const float * x, int64_t ldx, int64_t k, float * y, int64_t ldy) {
    vf sum[R * M];
#pragma GCC unroll 32
    for (int i = 0; i < R * M; i++) {
        sum[i] = vf{};
    }
    int64_t c = 0;
    for (; c + L <= k; c += L) {
        vf wv[R];
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            wv[r] = read_at<TYPE>(w + r * row_bytes, c);
            // Short rows beside each other are no stream to the hardware.
            __builtin_prefetch(w + (2 * R + r) * row_bytes + stored_bytes(ggml_type(TYPE), c), 0, 2);
        }
#pragma GCC unroll 8
        for (int m = 0; m < M; m++) {
            const vf xv = load(x + m * ldx + c);
#pragma GCC unroll 8
            for (int r = 0; r < R; r++) {
                sum[r * M + m] = wv[r] * xv + sum[r * M + m];
            }
        }
    }
    if (c < k) {  // never with q8_0
        vf xr[M];
#pragma GCC unroll 8
        for (int m = 0; m < M; m++) {
            xr[m] = read_rest<GGML_TYPE_F32>(reinterpret_cast<const char *>(x + m * ldx), c, k - c);
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            const vf wr = read_rest<TYPE>(w + r * row_bytes, c, k - c);
#pragma GCC unroll 8
            for (int m = 0; m < M; m++) {
                sum[r * M + m] = wr * xr[m] + sum[r * M + m];
            }
        }
    }
    float flat[(R * M + L - 1) / L * L];
    put_sums<R * M>(sum, flat);
    for (int r = 0; r < R; r++) {
        for (int m = 0; m < M; m++) {
            y[m * ldy + r] = flat[r * M + m];
        }
    }
}

template <int TYPE, int M> void dots_of(const GemmTask & task) {
    constexpr int R = dot_rows(M);
    const float * x = reinterpret_cast<const float *>(task.x.data + task.m0 * (int64_t)task.x.row_bytes);
    const int64_t ldx = (int64_t)(task.x.row_bytes / 4), row_bytes = (int64_t)task.b.row_bytes;
    float * y = task.y + task.m0 * task.ldy;
    int64_t n = task.n0;
    for (; n + R <= task.n1; n += R) {
        dots<TYPE, M, R>(row_at(task.b, n), row_bytes, x, ldx, task.k, y + n, task.ldy);
    }
    for (; n < task.n1; n++) {
        dots<TYPE, M, 1>(row_at(task.b, n), row_bytes, x, ldx, task.k, y + n, task.ldy);
    }
}

template <int TYPE> void dots_as(const GemmTask & task) {
    switch (task.m1 - task.m0) {
        case 1:
            return dots_of<TYPE, 1>(task);
        case 2:
            return dots_of<TYPE, 2>(task);
        case 3:
            return dots_of<TYPE, 3>(task);
        case 4:
            return dots_of<TYPE, 4>(task);
        case 5:
            return dots_of<TYPE, 5>(task);
        case 6:
            return dots_of<TYPE, 6>(task);
        case 7:
            return dots_of<TYPE, 7>(task);
        case 8:
            return dots_of<TYPE, 8>(task);
    }
}

// 1 to MAX_DOTS rows of f32 x; W by rows; no accumulation; no scratch.
void multiply_few(const GemmTask & task) {
    switch (task.b.type) {
        case GGML_TYPE_F32:
            return dots_as<GGML_TYPE_F32>(task);
        case GGML_TYPE_F16:
            return dots_as<GGML_TYPE_F16>(task);
        case GGML_TYPE_BF16:
            return dots_as<GGML_TYPE_BF16>(task);
        default:
            return dots_as<GGML_TYPE_Q8_0>(task);
    }
}

}  // namespace
}  // namespace vg
