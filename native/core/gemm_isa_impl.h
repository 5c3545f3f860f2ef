// The packed product for one instruction set. The including file defines VG_LANES (floats in a vector), VG_TILE_ROWS
// (rows of a register tile; a tile is this many rows by two vectors) and VG_ISA_NAME.
//
// One of the two factors is read as scalars ("a": contiguous along k, one row for each row of the tile) and the other
// as vectors ("b": packed in panels of two vectors a step of k). Either factor can take either part, so there is a
// cheap packing for every layout and shape.
//
// Every element of the result is a sum over blocks of k, each block summed in order of k with fused multiply-adds. The
// blocks depend on the length of k alone. So a value depends neither on the number of threads, nor on the place in a
// tile, nor on how many other rows there are.

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
constexpr int TR = VG_TILE_ROWS;
constexpr int PW = 2 * L;        // width of a panel
constexpr int64_t KC = 640;      // longest block of k
constexpr int64_t AS = KC + 16;  // row stride of packed a; not a power of two, so rows fall in different cache sets
constexpr int64_t B_FLOATS = 128 * 1024;  // packed b kept in the second-level cache
constexpr int64_t A_ROWS = 168;           // rows of a packed at once where b is streamed
constexpr int64_t MIN_B_FLOATS = PW * KC;

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

// Length of a block of k: as equal as possible, a multiple of 32 (the block of q8_0).
inline int64_t block_length(int64_t k) {
    const int64_t blocks = div_up(k, KC);
    return min64(div_up(div_up(k, blocks), 32) * 32, KC);
}

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
        const vf v = read_at < TYPE == GGML_TYPE_Q8_0 ? GGML_TYPE_F32 : TYPE > (rest, 0);
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

// ---- the register tile

// What the next tile will read, fetched while this one is computed: one address for each step of k.
struct Ahead {
    const char * at;  // null: nothing
    int64_t step;     // to the address of the next step
    int64_t turn;     // added after every 16 steps
    int64_t second;   // distance of a second address, or 0
};

// tile[i][0..NV*L) = Σ_k a[i * AS + k] * b[k * ldb + ...]
template <int AR, int NV>
void tile_product(int64_t kc, const float * a, const float * b, int64_t ldb, float * tile, Ahead ahead) {
    vf acc[AR][NV] = {};
    for (int64_t k = 0; k < kc; k++, a++, b += ldb) {
        if (ahead.at) {
            __builtin_prefetch(ahead.at, 0, 2);
            if (ahead.second) {
                __builtin_prefetch(ahead.at + ahead.second, 0, 2);
            }
            ahead.at += ahead.step;
            if (k % 16 == 15) {
                ahead.at += ahead.turn;
            }
        }
        vf bv[NV];
#pragma GCC unroll 4
        for (int v = 0; v < NV; v++) {
            bv[v] = load(b + v * L);
        }
#pragma GCC unroll 16
        for (int i = 0; i < AR; i++) {
            const float av = a[i * AS];
#pragma GCC unroll 4
            for (int v = 0; v < NV; v++) {
                acc[i][v] = bv[v] * av + acc[i][v];
            }
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < AR; i++) {
#pragma GCC unroll 4
        for (int v = 0; v < NV; v++) {
            store(tile + i * PW + v * L, acc[i][v]);
        }
    }
}

typedef void (*TileProduct)(int64_t, const float *, const float *, int64_t, float *, Ahead);

// tiles.product[rows - 1][vectors - 1]. Filled by the compiler: code that runs when the library is loaded must not be
// here, where it may use instructions the processor lacks.
struct Tiles {
    TileProduct product[TR][2];

    template <int AR> constexpr void fill() {
        product[AR - 1][0] = tile_product<AR, 1>;
        product[AR - 1][1] = tile_product<AR, 2>;
        if constexpr (AR > 1) {
            fill<AR - 1>();
        }
    }

    constexpr Tiles() : product{} { fill<TR>(); }
};
constexpr Tiles tiles;

// ---- putting a tile into the result

// y[0..n) (=|+=) v
inline void put(float * y, vf v, int64_t n, bool add) {
    if (n >= L) {
        store(y, add ? load(y) + v : v);
        return;
    }
#if VG_LANES == 16 && defined(__AVX512F__)
    const __mmask16 mask = (__mmask16)((1u << n) - 1);
    if (add) {
        v += (vf)_mm512_maskz_loadu_ps(mask, y);
    }
    _mm512_mask_storeu_ps(y, mask, (__m512)v);
#else
    float rest[L];
    store(rest, v);
    for (int64_t i = 0; i < n; i++) {
        y[i] = add ? y[i] + rest[i] : rest[i];
    }
#endif
}

// y[i][j] (=|+=) tile[i][j]
void put_rows(const float * tile, int64_t rows, int64_t cols, float * y, int64_t ldy, bool add) {
    for (int64_t i = 0; i < rows; i++, tile += PW, y += ldy) {
        for (int64_t j = 0; j < cols; j += L) {
            put(y + j, load(tile + j), cols - j, add);
        }
    }
}

// y[j][i] (=|+=) tile[i][j]. Reads the tile's rows up to a multiple of L.
void put_columns(const float * tile, int64_t rows, int64_t cols, float * y, int64_t ldy, bool add) {
    for (int64_t i = 0; i < rows; i += L) {
        for (int64_t j = 0; j < cols; j += L) {
            vf v[L];
#pragma GCC unroll 16
            for (int s = 0; s < L; s++) {
                v[s] = load(tile + (i + s) * PW + j);
            }
            transpose_square(v);
            const int64_t n = min64(L, cols - j);
            if (n == L) {
#pragma GCC unroll 16
                for (int s = 0; s < L; s++) {
                    put(y + (j + s) * ldy + i, v[s], rows - i, add);
                }
            } else {
                for (int64_t s = 0; s < n; s++) {
                    put(y + (j + s) * ldy + i, v[s], rows - i, add);
                }
            }
        }
    }
}

// ---- packing and the loops

// Both factors as the loops see them. a: `rows` rows, scalars. b: `cols` columns, vectors.
struct Operand {
    GemmRows rows;
    bool by_k;      // row k holds the values of step k; else row i holds the steps of k of row or column i
    int64_t first;  // by_k: where in its row the first value is
};

struct Product {
    Operand a, b;
    int64_t rows, cols, k;
    float * y;  // element (i, j) is y[i * ldy + j], or y[j * ldy + i] where turned
    int64_t ldy;
    bool turned;
    bool accumulate;
    float * scratch;
};

void pack_a(const Operand & a, int64_t i0, int64_t n, int64_t k0, int64_t kc, float * dst) {
    if (a.by_k) {  // only ever f32
        const float * src = reinterpret_cast<const float *>(row_at(a.rows, k0)) + a.first + i0;
        transpose(src, (int64_t)(a.rows.row_bytes / 4), kc, n, dst, AS, false);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        read_row(row_at(a.rows, i0 + i), a.rows.type, k0, kc, dst + i * AS);
    }
}

inline int64_t panel_width(int64_t cols) { return cols <= L ? L : PW; }

// One panel: dst[k * width + j]
void pack_b(const Operand & b, int64_t j0, int64_t n, int64_t k0, int64_t kc, float * dst, float * spare) {
    const int64_t width = panel_width(n);
    if (b.by_k && n == PW) {
        read_panel(b.rows, row_at(b.rows, k0), kc, b.first + j0, dst);
        return;
    }
    if (b.by_k) {
        for (int64_t k = 0; k < kc; k++, dst += width) {
            read_row(row_at(b.rows, k0 + k), b.rows.type, b.first + j0, n, dst);
            for (int64_t j = n; j < width; j++) {
                dst[j] = 0.0f;
            }
        }
        return;
    }
    for (int64_t j = 0; j < n; j += L) {
        const int64_t nj = min64(L, n - j);
        if (b.rows.type == GGML_TYPE_F32) {
            const float * src = reinterpret_cast<const float *>(row_at(b.rows, j0 + j)) + k0;
            transpose(src, (int64_t)(b.rows.row_bytes / 4), nj, kc, dst + j, width, true);
        } else {
            for (int64_t r = 0; r < nj; r++) {
                read_row(row_at(b.rows, j0 + j + r), b.rows.type, k0, kc, spare + r * AS);
            }
            transpose(spare, AS, nj, kc, dst + j, width, true);
        }
    }
    for (int64_t j = div_up(n, L) * L; j < width; j += L) {
        for (int64_t k = 0; k < kc; k++) {
            store(dst + k * width + j, vf{});
        }
    }
}

inline void put_tile(const Product & p, const float * tile, int64_t i, int64_t rows, int64_t j, int64_t cols,
                     bool add) {
    if (p.turned) {
        put_columns(tile, rows, cols, p.y + j * p.ldy + i, p.ldy, add);
    } else {
        put_rows(tile, rows, cols, p.y + i * p.ldy + j, p.ldy, add);
    }
}

// The start of tile t where n rows are shared out as evenly as possible.
inline int64_t tile_start(int64_t n, int64_t count, int64_t t) { return n * t / count; }

// Keeps a block of b packed in the second-level cache and runs the tiles of a past it. Where all of k fits, a is read
// whole row by whole row.
void run_b_resident(const Product & p) {
    alignas(64) float tile[(TR + L) * PW];
    memset(tile, 0, sizeof tile);
    float * a_buf = p.scratch;
    float * spare = a_buf + TR * AS;
    float * b_buf = spare + L * AS;
    const int64_t kb = block_length(p.k);
    const int64_t count = div_up(p.rows, TR);
    int64_t width = B_FLOATS / p.k / PW * PW;
    int64_t group = p.k;
    if (width < p.cols) {
        width = B_FLOATS / kb / PW * PW;
        group = kb;
    }
    for (int64_t j0 = 0; j0 < p.cols; j0 += width) {
        const int64_t nj = min64(width, p.cols - j0);
        for (int64_t g0 = 0; g0 < p.k; g0 += group) {
            const int64_t gk = min64(group, p.k - g0);
            for (int64_t k0 = 0; k0 < gk; k0 += kb) {
                for (int64_t j = 0; j < nj; j += PW) {
                    const int64_t kc = min64(kb, gk - k0);
                    const int64_t n = min64(PW, nj - j);
                    pack_b(p.b, j0 + j, n, g0 + k0, kc, b_buf + k0 * div_up(nj, L) * L + j * kc, spare);
                }
            }
            for (int64_t t = 0; t < count; t++) {
                const int64_t i = tile_start(p.rows, count, t);
                const int64_t n = tile_start(p.rows, count, t + 1) - i;
                for (int64_t k0 = 0; k0 < gk; k0 += kb) {
                    const int64_t kc = min64(kb, gk - k0);
                    pack_a(p.a, i, n, g0 + k0, kc, a_buf);
                    const int64_t row_bytes = (int64_t)p.a.rows.row_bytes;
                    Ahead ahead = {nullptr, row_bytes, stored_bytes(p.a.rows.type, 16) - 16 * row_bytes, 0};
                    if (!p.a.by_k) {
                        const int64_t next = k0 + kb < gk ? i : i + n;
                        const int64_t next_k = k0 + kb < gk ? g0 + k0 + kb : g0;
                        if (next < p.rows) {
                            ahead.at = row_at(p.a.rows, next) + stored_bytes(p.a.rows.type, next_k);
                        }
                    }
                    for (int64_t j = 0; j < nj; j += PW) {
                        const int64_t nc = min64(PW, nj - j);
                        const float * panel = b_buf + k0 * div_up(nj, L) * L + j * kc;
                        tiles.product[n - 1][nc > L](kc, a_buf, panel, panel_width(nc), tile, ahead);
                        put_tile(p, tile, i, n, j0 + j, nc, p.accumulate || g0 + k0 > 0);
                        ahead.at = nullptr;
                    }
                }
            }
        }
    }
}

// Keeps a packed (few rows) and streams b past it; where b is f32 by k and there are few tiles, without packing b at
// all.
void run_a_resident(const Product & p) {
    alignas(64) float tile[(TR + L) * PW];
    memset(tile, 0, sizeof tile);
    float * a_buf = p.scratch;
    float * spare = a_buf + A_ROWS * AS;
    float * b_buf = spare + L * AS;
    const int64_t kb = block_length(p.k);
    const bool direct = p.b.by_k && p.b.rows.type == GGML_TYPE_F32 && p.rows <= 2 * TR;
    for (int64_t i0 = 0; i0 < p.rows; i0 += A_ROWS) {
        const int64_t ni = min64(A_ROWS, p.rows - i0);
        const int64_t count = div_up(ni, TR);
        for (int64_t k0 = 0; k0 < p.k; k0 += kb) {
            const int64_t kc = min64(kb, p.k - k0);
            pack_a(p.a, i0, ni, k0, kc, a_buf);
            for (int64_t j = 0; j < p.cols; j += PW) {
                const int64_t nc = min64(PW, p.cols - j);
                const float * panel = b_buf;
                int64_t ldb = panel_width(nc);
                if (direct && nc % L == 0) {
                    panel = reinterpret_cast<const float *>(row_at(p.b.rows, k0)) + p.b.first + j;
                    ldb = (int64_t)(p.b.rows.row_bytes / 4);
                } else {
                    pack_b(p.b, j, nc, k0, kc, b_buf, spare);
                }
                Ahead ahead = {nullptr, (int64_t)p.b.rows.row_bytes, 0, stored_bytes(p.b.rows.type, PW) - 1};
                if (p.b.by_k) {
                    const bool last = j + PW >= p.cols;
                    const int64_t next_j = last ? 0 : j + PW;
                    const int64_t next_k = last ? k0 + kb : k0;
                    if (next_k < p.k) {
                        ahead.at = row_at(p.b.rows, next_k) + stored_bytes(p.b.rows.type, p.b.first + next_j);
                    }
                }
                for (int64_t t = 0; t < count; t++) {
                    const int64_t i = tile_start(ni, count, t);
                    const int64_t n = tile_start(ni, count, t + 1) - i;
                    tiles.product[n - 1][nc > L](kc, a_buf + i * AS, panel, ldb, tile, ahead);
                    ahead.at = nullptr;
                    put_tile(p, tile, i0 + i, n, j, nc, p.accumulate || k0 > 0);
                }
            }
        }
    }
}

constexpr size_t SCRATCH_B_RESIDENT = ((TR + L) * AS + (B_FLOATS > MIN_B_FLOATS ? B_FLOATS : MIN_B_FLOATS)) * 4;
constexpr size_t SCRATCH_A_RESIDENT = ((A_ROWS + L) * AS + MIN_B_FLOATS) * 4;

void multiply(const GemmTask & task) {
    const int64_t m = task.m1 - task.m0;
    const int64_t n = task.n1 - task.n0;
    if (m <= 0 || n <= 0) {
        return;
    }
    GemmRows x = task.x;
    x.data += task.m0 * (int64_t)x.row_bytes;
    GemmRows b = task.b;
    Product p;
    p.k = task.k;
    p.y = task.y + task.m0 * task.ldy + task.n0;
    p.ldy = task.ldy;
    p.accumulate = task.accumulate;
    p.scratch = task.scratch;
    if (!task.b_by_k) {
        b.data += task.n0 * (int64_t)b.row_bytes;
    }
    const bool scalar_x = task.b_by_k || task.k <= 32;
    if (scalar_x) {
        p.a = {x, false, 0};
        p.b = {b, task.b_by_k, task.n0};
        p.rows = m;
        p.cols = n;
        p.turned = false;
    } else {
        p.a = {b, false, 0};
        p.b = {x, false, 0};
        p.rows = n;
        p.cols = m;
        p.turned = true;
    }
    if (scalar_x && (task.b_by_k || m <= A_ROWS)) {
        run_a_resident(p);
    } else {
        run_b_resident(p);
    }
}

void outer(const GemmOuterTask & task) {
    if (task.i1 <= task.i0 || task.t <= 0 || task.rb <= 0) {
        return;
    }
    Product p;
    p.a = {{reinterpret_cast<const char *>(task.z), (size_t)task.ldz * 4, GGML_TYPE_F32}, true, 0};
    p.b = {{reinterpret_cast<const char *>(task.x + task.i0), (size_t)task.ldx * 4, GGML_TYPE_F32}, true, 0};
    p.rows = task.rb;
    p.cols = task.i1 - task.i0;
    p.k = task.t;
    p.y = task.g + task.i0 * task.ldg;
    p.ldy = task.ldg;
    p.turned = true;
    p.accumulate = true;
    p.scratch = task.scratch;
    run_a_resident(p);
}

const GemmIsa isa = {
    VG_ISA_NAME, L, SCRATCH_B_RESIDENT > SCRATCH_A_RESIDENT ? SCRATCH_B_RESIDENT : SCRATCH_A_RESIDENT, multiply, outer,
};

}  // namespace
}  // namespace vg
