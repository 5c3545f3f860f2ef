#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)

#define VG_LANES 8
#define VG_TILE_ROWS 6
#define VG_ISA_NAME "avx2"
#include "gemm_isa_impl.h"

const vg::GemmIsa * vg::gemm_isa_avx2() { return &isa; }

#else

#include "gemm_isa.h"

const vg::GemmIsa * vg::gemm_isa_avx2() { return nullptr; }

#endif
