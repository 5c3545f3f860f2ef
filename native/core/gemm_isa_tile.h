// The register tile: its product, and putting it into the result. Part of gemm_isa_impl.h.
#pragma once

#include "gemm_isa_vectors.h"

namespace vg {
namespace {

constexpr int TR = VG_TILE_ROWS;
constexpr int64_t KC = 640;      // longest block of k
constexpr int64_t AS = KC + 16;  // row stride of packed a; not a power of two, so rows fall in different cache sets

// ---- the register tile

// What the next tile will read, fetched while this one is computed: one address for each step of k.
struct Ahead {
    const char * at;  // null: nothing
    int64_t step;     // to the address of the next step
    int64_t turn;     // added after every 16 steps
    int64_t second;   // distance of a second address, or 0
};

// tile[i][0..NV*L) = Σ_k a[i * row + k] * b[k * ldb + ...]. Rows of packed a are AS apart: a constant spares
// the registers that another distance needs.
template <int AR, int NV, bool PACKED>
void tile_product(int64_t kc, const float * a, int64_t lda, const float * b, int64_t ldb, float * tile, Ahead ahead) {
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
            const float av = a[i * (PACKED ? AS : lda)];
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

typedef void (*TileProduct)(int64_t, const float *, int64_t, const float *, int64_t, float *, Ahead);

// tiles.product[rows - 1][vectors - 1]; tiles.direct for a that is not packed. Filled by the compiler: code that runs
// when the library is loaded must not be here, where it may use instructions the processor lacks.
struct Tiles {
    TileProduct product[TR][2];
    TileProduct direct[TR][2];

    template <int AR> constexpr void fill() {
        product[AR - 1][0] = tile_product<AR, 1, true>;
        product[AR - 1][1] = tile_product<AR, 2, true>;
        direct[AR - 1][0] = tile_product<AR, 1, false>;
        direct[AR - 1][1] = tile_product<AR, 2, false>;
        if constexpr (AR > 1) {
            fill<AR - 1>();
        }
    }

    constexpr Tiles() : product{}, direct{} { fill<TR>(); }
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

}  // namespace
}  // namespace vg
