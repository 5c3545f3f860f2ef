// Vectors of VG_LANES floats: loading, storing, reading stored weights as f32, transposing. Part of gemm_isa_impl.h.
#pragma once

#include <string.h>

#include "gemm_isa.h"

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace vg {
namespace {

constexpr int L = VG_LANES;
constexpr int PW = 2 * L;  // width of a panel

typedef float vf __attribute__((vector_size(VG_LANES * 4)));
typedef float vfu __attribute__((vector_size(VG_LANES * 4), aligned(4), may_alias));
typedef uint32_t vu __attribute__((vector_size(VG_LANES * 4)));
typedef int32_t vi __attribute__((vector_size(VG_LANES * 4)));
typedef uint16_t vh __attribute__((vector_size(VG_LANES * 2)));
typedef int8_t vb __attribute__((vector_size(VG_LANES)));

inline vf load(const float * p) { return *reinterpret_cast<const vfu *>(p); }
inline void store(float * p, vf v) { *reinterpret_cast<vfu *>(p) = v; }
inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t div_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// ---- reading stored weights as f32

inline vf from_f16(const uint16_t * p) {
#if VG_LANES == 16 && defined(__AVX512F__)
    return (vf)_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i *>(p)));
#elif VG_LANES == 8 && defined(__F16C__)
    return (vf)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p)));
#elif VG_LANES == 4 && defined(__ARM_NEON) && defined(__aarch64__)
    return (vf)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
#else
    vh h;
    memcpy(&h, p, sizeof h);
    const vu w = __builtin_convertvector(h, vu) << 16;
    const vu sign = w & 0x80000000u;
    const vu mag = w + w;
    // Normal numbers: move the exponent to its f32 place and rebias by a multiplication, which also keeps Inf and NaN.
    const vf normal = (vf)((mag >> 4) + (0xE0u << 23)) * 0x1.0p-112f;
    const vf subnormal = (vf)((mag >> 17) | (126u << 23)) - 0.5f;
    const vu small = (vu)(mag < (1u << 27));
    return (vf)(sign | ((vu)subnormal & small) | ((vu)normal & ~small));
#endif
}

inline vf from_bf16(const uint16_t * p) {
    vh h;
    memcpy(&h, p, sizeof h);
    return (vf)(__builtin_convertvector(h, vu) << 16);
}

inline vf from_i8(const int8_t * p) {
#if VG_LANES == 16 && defined(__AVX512F__)
    return __builtin_convertvector(
        (vi)_mm512_maskz_cvtepi8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i *>(p))), vf);
#elif VG_LANES == 8 && defined(__AVX2__)
    return __builtin_convertvector((vi)_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(p))), vf);
#else
    vb b;
    memcpy(&b, p, sizeof b);
    return __builtin_convertvector(__builtin_convertvector(b, vi), vf);
#endif
}

inline float scalar_f16(uint16_t h) {
#if defined(__F16C__)
    return _cvtsh_ss(h);
#else
    const uint16_t half[L] = {h};
    return from_f16(half)[0];
#endif
}

struct block_q8 {
    uint16_t d;
    int8_t q[32];
};

// Columns c..c+L of a stored row. For q8_0, c is a multiple of L.
template <int TYPE> inline vf read_at(const char * row, int64_t c) {
    if constexpr (TYPE == GGML_TYPE_F32) {
        return load(reinterpret_cast<const float *>(row) + c);
    } else if constexpr (TYPE == GGML_TYPE_F16) {
        return from_f16(reinterpret_cast<const uint16_t *>(row) + c);
    } else if constexpr (TYPE == GGML_TYPE_BF16) {
        return from_bf16(reinterpret_cast<const uint16_t *>(row) + c);
    } else {
        const block_q8 * block = reinterpret_cast<const block_q8 *>(row) + c / 32;
        return from_i8(block->q + c % 32) * scalar_f16(block->d);
    }
}

// dst[0..n) = columns c.. of a row. Reads nothing past them. For q8_0, c and n are multiples of 16.
template <int TYPE> inline void read_row_as(const char * row, int64_t c, int64_t n, float * dst) {
    int64_t i = 0;
    for (; i + L <= n; i += L) {
        store(dst + i, read_at<TYPE>(row, c + i));
    }
    if (i < n && TYPE != GGML_TYPE_Q8_0) {
        constexpr int size = TYPE == GGML_TYPE_F32 ? 4 : 2;
        char rest[4 * L] = {};
        memcpy(rest, row + (c + i) * size, (size_t)(n - i) * size);
        const vf v = read_at<TYPE == GGML_TYPE_Q8_0 ? GGML_TYPE_F32 : TYPE>(rest, 0);
        memcpy(dst + i, &v, (size_t)(n - i) * 4);
    }
}

void read_row(const char * row, ggml_type type, int64_t c, int64_t n, float * dst) {
    switch (type) {
        case GGML_TYPE_F32:
            return read_row_as<GGML_TYPE_F32>(row, c, n, dst);
        case GGML_TYPE_F16:
            return read_row_as<GGML_TYPE_F16>(row, c, n, dst);
        case GGML_TYPE_BF16:
            return read_row_as<GGML_TYPE_BF16>(row, c, n, dst);
        default:
            return read_row_as<GGML_TYPE_Q8_0>(row, c, n, dst);
    }
}

// dst[r * PW + j] = column c + j of row r, a whole panel wide
template <int TYPE> void read_panel_as(const char * row, size_t row_bytes, int64_t rows, int64_t c, float * dst) {
    for (int64_t r = 0; r < rows; r++, row += row_bytes, dst += PW) {
        store(dst, read_at<TYPE>(row, c));
        store(dst + L, read_at<TYPE>(row, c + L));
    }
}

void read_panel(const GemmRows & m, const char * row, int64_t rows, int64_t c, float * dst) {
    switch (m.type) {
        case GGML_TYPE_F32:
            return read_panel_as<GGML_TYPE_F32>(row, m.row_bytes, rows, c, dst);
        case GGML_TYPE_F16:
            return read_panel_as<GGML_TYPE_F16>(row, m.row_bytes, rows, c, dst);
        case GGML_TYPE_BF16:
            return read_panel_as<GGML_TYPE_BF16>(row, m.row_bytes, rows, c, dst);
        default:
            return read_panel_as<GGML_TYPE_Q8_0>(row, m.row_bytes, rows, c, dst);
    }
}

inline const char * row_at(const GemmRows & m, int64_t row) { return m.data + row * (int64_t)m.row_bytes; }

inline int64_t stored_bytes(ggml_type type, int64_t n) {
    return type == GGML_TYPE_F32 ? 4 * n : type == GGML_TYPE_Q8_0 ? n * 34 / 32 : 2 * n;
}

// ---- transposition

#if VG_LANES == 16
inline vf interleave_lo(vf a, vf b) {
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
inline vf interleave_hi(vf a, vf b) {
    return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
#elif VG_LANES == 8
inline vf interleave_lo(vf a, vf b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
inline vf interleave_hi(vf a, vf b) { return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
#else
inline vf interleave_lo(vf a, vf b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
inline vf interleave_hi(vf a, vf b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
#endif

// Transposes L vectors in registers: each round merges vector i with vector i + L/2 element by element.
inline __attribute__((always_inline)) void transpose_square(vf * v) {
    vf t[L];
#pragma GCC unroll 16
    for (int round = 1; round < L; round *= 2) {
#pragma GCC unroll 16
        for (int i = 0; i < L / 2; i++) {
            t[2 * i] = interleave_lo(v[i], v[i + L / 2]);
            t[2 * i + 1] = interleave_hi(v[i], v[i + L / 2]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < L; i++) {
            v[i] = t[i];
        }
    }
}

// dst[c * ldd + r] = src[r * lds + c]. Fills r up to a multiple of L with zeros (dst has room for it) where pad is set.
void transpose(const float * src, int64_t lds, int64_t rows, int64_t cols, float * dst, int64_t ldd, bool pad) {
    for (int64_t r = 0; r < rows; r += L) {
        const int64_t nr = min64(L, rows - r);
        for (int64_t c = 0; c < cols; c += L) {
            const int64_t nc = min64(L, cols - c);
            const float * s = src + r * lds + c;
            float * d = dst + c * ldd + r;
            vf v[L];
            if (nr == L && nc == L) {
#pragma GCC unroll 16
                for (int i = 0; i < L; i++) {
                    v[i] = load(s + i * lds);
                }
                transpose_square(v);
#pragma GCC unroll 16
                for (int i = 0; i < L; i++) {
                    store(d + i * ldd, v[i]);
                }
                continue;
            }
            float edge[L * L] = {};
            for (int64_t i = 0; i < nr; i++) {
                for (int64_t j = 0; j < nc; j++) {
                    edge[i * L + j] = s[i * lds + j];
                }
            }
            const int64_t width = pad ? L : nr;
            for (int64_t j = 0; j < nc; j++) {
                for (int64_t i = 0; i < width; i++) {
                    d[j * ldd + i] = edge[i * L + j];
                }
            }
        }
    }
}

}  // namespace
}  // namespace vg
