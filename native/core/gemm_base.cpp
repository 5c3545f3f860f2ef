// The kernel for whatever the build targets: NEON on ARM, SSE2 on x86, four floats at a time elsewhere.

#define VG_LANES 4
#if defined(__ARM_NEON) && defined(__aarch64__)
#define VG_TILE_ROWS 10  // with 12, GCC spills accumulators
#define VG_ISA_NAME "neon"
#else
#define VG_TILE_ROWS 6
#define VG_ISA_NAME "portable"
#endif
#include "gemm_isa_impl.h"

const vg::GemmIsa * vg::gemm_isa_base() { return &isa; }
