#if defined(__AVX512F__) && defined(__AVX512VL__) && defined(__AVX512BW__) && defined(__AVX512DQ__)

#define VG_LANES 16
#define VG_TILE_ROWS 14
#define VG_ISA_NAME "avx512"
#include "gemm_isa_impl.h"

const vg::GemmIsa * vg::gemm_isa_avx512() { return &isa; }

#else

#include "gemm_isa.h"

const vg::GemmIsa * vg::gemm_isa_avx512() { return nullptr; }

#endif
