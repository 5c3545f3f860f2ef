#include "gemm.h"

#include <algorithm>
#include <cstring>

#include "gemm_isa.h"

namespace vg {
namespace {

bool runs_avx2() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
#else
    return false;
#endif
}

bool runs_avx512() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_cpu_init();
    return runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
#else
    return false;
#endif
}

struct IsaList {
    const GemmIsa * isas[4] = {};

    IsaList() {
        int n = 0;
        if (runs_avx512() && gemm_isa_avx512()) {
            isas[n++] = gemm_isa_avx512();
        }
        if (runs_avx2() && gemm_isa_avx2()) {
            isas[n++] = gemm_isa_avx2();
        }
        isas[n++] = gemm_isa_base();
    }
};

const GemmIsa * forced = nullptr;

const GemmIsa & isa() { return forced ? *forced : *gemm_isas()[0]; }

// Columns of Y are shared out in cache lines, which is also half a panel of the widest kernel and half a block of q8_0.
constexpr int64_t UNIT = 16;
// A narrow Y of many rows (LoRA) is shared out by rows, in panels of the widest kernel: as a value depends on neither,
// this changes no result.
constexpr int64_t ROW_UNIT = 32;

}  // namespace

const GemmIsa * const * gemm_isas() {
    static const IsaList list;
    return list.isas;
}

bool gemm_force_kernel(const char * name) {
    forced = nullptr;
    if (!name) {
        return true;
    }
    for (const GemmIsa * const * i = gemm_isas(); *i; i++) {
        if (std::strcmp((*i)->name, name) == 0) {
            forced = *i;
            return true;
        }
    }
    return false;
}

const char * gemm_kernel() { return isa().name; }

size_t gemm_scratch_bytes() { return isa().scratch_bytes; }

GemmPart gemm_part(int64_t m, int64_t n, int ith, int nth) {
    if (n < 4 * UNIT * nth && m >= 2 * ROW_UNIT)
        return {share(m, ith, nth, ROW_UNIT), {0, n}};
    return {{0, m}, share(n, ith, nth, UNIT)};
}

void gemm(const GemmWeights & weights, bool transposed, const float * x, int64_t ldx, float * y, int64_t ldy, int64_t m,
          bool accumulate, int ith, int nth, void * scratch) {
    const GemmPart part = gemm_part(m, transposed ? weights.cols : weights.rows, ith, nth);
    gemm_columns(weights, transposed, x + part.rows.begin * ldx, ldx, y + part.rows.begin * ldy, ldy,
                 part.rows.end - part.rows.begin, accumulate, part.columns.begin, part.columns.end, scratch);
}

void gemm_stored(const GemmWeights & weights, const GemmWeights & x, float * y, int64_t ldy, int ith, int nth,
                 void * scratch) {
    const bool few = x.rows <= isa().few && x.type == GGML_TYPE_F32;
    const GemmPart part = gemm_part(x.rows, weights.rows, ith, nth);
    GemmTask task;
    task.x = {static_cast<const char *>(x.data), x.row_bytes, x.type};
    task.b = {static_cast<const char *>(weights.data), weights.row_bytes, weights.type};
    task.b_by_k = false;
    task.y = y;
    task.ldy = ldy;
    task.m0 = part.rows.begin;
    task.m1 = part.rows.end;
    task.n0 = part.columns.begin;
    task.n1 = part.columns.end;
    task.k = weights.cols;
    task.accumulate = false;
    task.scratch = static_cast<float *>(scratch);
    (few ? isa().multiply_few : isa().multiply)(task);
}

void gemm_columns(const GemmWeights & weights, bool transposed, const float * x, int64_t ldx, float * y, int64_t ldy,
                  int64_t m, bool accumulate, int64_t n0, int64_t n1, void * scratch) {
    GemmTask task;
    task.x = {reinterpret_cast<const char *>(x), static_cast<size_t>(ldx) * sizeof(float), GGML_TYPE_F32};
    task.b = {static_cast<const char *>(weights.data), weights.row_bytes, weights.type};
    task.b_by_k = transposed;
    task.y = y;
    task.ldy = ldy;
    task.m0 = 0;
    task.m1 = m;
    task.n0 = n0;
    task.n1 = n1;
    task.k = transposed ? weights.rows : weights.cols;
    task.accumulate = accumulate;
    task.scratch = static_cast<float *>(scratch);
    isa().multiply(task);
}

void gemm_outer(const float * x, int64_t ldx, const float * z, int64_t ldz, float * g, int64_t ldg, int64_t t,
                int64_t ra, int64_t rb, int ith, int nth, void * scratch) {
    GemmOuterTask task;
    task.x = x;
    task.ldx = ldx;
    task.z = z;
    task.ldz = ldz;
    task.g = g;
    task.ldg = ldg;
    task.t = t;
    task.rb = rb;
    task.scratch = static_cast<float *>(scratch);
    const auto [begin, end] = share(ra, ith, nth, UNIT);
    task.i0 = begin;
    task.i1 = end;
    isa().outer(task);
}

}  // namespace vg
