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

#pragma once

#include "gemm_isa_dots.h"
#include "gemm_isa_tile.h"

namespace vg {
namespace {

constexpr int64_t B_FLOATS = 128 * 1024;  // packed b kept in the second-level cache
constexpr int64_t A_ROWS = 168;           // rows of a packed at once where b is streamed
constexpr int64_t A_BLOCKS = 4;           // blocks of k of one tile of a packed at once
constexpr int64_t MIN_B_FLOATS = PW * KC;

// Length of a block of k: as equal as possible, a multiple of 32 (the block of q8_0).
inline int64_t block_length(int64_t k) {
    const int64_t blocks = div_up(k, KC);
    return min64(div_up(div_up(k, blocks), 32) * 32, KC);
}

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

// All blocks of k0..k0+gk, row by row: a_buf[block][i]
void pack_a_blocks(const Operand & a, int64_t i0, int64_t n, int64_t k0, int64_t gk, int64_t kb, float * dst) {
    for (int64_t i = 0; i < n; i++) {
        const char * row = row_at(a.rows, i0 + i);
        for (int64_t k = 0; k < gk; k += kb) {
            read_row(row, a.rows.type, k0 + k, min64(kb, gk - k), dst + (k / kb * TR + i) * AS);
        }
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
    float * spare = a_buf + A_BLOCKS * TR * AS;
    float * b_buf = spare + L * AS;
    const int64_t kb = block_length(p.k);
    const int64_t count = div_up(p.rows, TR);
    int64_t width = B_FLOATS / p.k / PW * PW;
    int64_t group = p.k;
    const int64_t row_bytes = (int64_t)p.a.rows.row_bytes;
    // f32 rows are read where they are, unless they all fall in the same few cache sets.
    const bool direct = p.a.rows.type == GGML_TYPE_F32 && row_bytes % 4096 != 0;
    const int64_t lda = row_bytes / 4;
    const auto * product = direct ? tiles.direct : tiles.product;
    if (width < p.cols || p.k > A_BLOCKS * kb) {
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
                if (!direct) {
                    pack_a_blocks(p.a, i, n, g0, gk, kb, a_buf);
                }
                Ahead ahead = {nullptr, n * row_bytes / gk, 0, 0};
                if (i + n < p.rows) {
                    ahead.at = row_at(p.a.rows, i + n);
                    if (group < p.k) {  // parts of rows
                        ahead = {ahead.at + stored_bytes(p.a.rows.type, g0), row_bytes,
                                 stored_bytes(p.a.rows.type, 16) - 16 * row_bytes, 0};
                    }
                }
                for (int64_t k0 = 0; k0 < gk; k0 += kb) {
                    const int64_t kc = min64(kb, gk - k0);
                    const float * a_block = a_buf + k0 / kb * TR * AS;
                    if (direct) {
                        a_block = reinterpret_cast<const float *>(row_at(p.a.rows, i)) + g0 + k0;
                    }
                    Ahead here = ahead;
                    for (int64_t j = 0; j < nj; j += PW) {
                        const int64_t nc = min64(PW, nj - j);
                        const float * panel = b_buf + k0 * div_up(nj, L) * L + j * kc;
                        product[n - 1][nc > L](kc, a_block, lda, panel, panel_width(nc), tile, here);
                        put_tile(p, tile, i, n, j0 + j, nc, p.accumulate || g0 + k0 > 0);
                        here.at = nullptr;
                    }
                    if (ahead.at) {
                        ahead.at += kc * ahead.step;
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
                    tiles.product[n - 1][nc > L](kc, a_buf + i * AS, 0, panel, ldb, tile, ahead);
                    ahead.at = nullptr;
                    put_tile(p, tile, i0 + i, n, j, nc, p.accumulate || k0 > 0);
                }
            }
        }
    }
}

constexpr size_t SCRATCH_B_RESIDENT =
    ((A_BLOCKS * TR + L) * AS + (B_FLOATS > MIN_B_FLOATS ? B_FLOATS : MIN_B_FLOATS)) * 4;
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
    VG_ISA_NAME,  L,     SCRATCH_B_RESIDENT > SCRATCH_A_RESIDENT ? SCRATCH_B_RESIDENT : SCRATCH_A_RESIDENT,
    multiply,     outer, MAX_DOTS,
    multiply_few,
};

}  // namespace
}  // namespace vg
