// ggml's CPU backend with the packed matrix product of gemm.h in place of ggml's own.
#pragma once

#include "ggml-backend.h"

namespace vg {

// Registers a ggml device of type ACCEL, once for the process. whisper.cpp gives its graphs to a GPU first, where it
// may use one, and then to the devices of this type in the order in which they were registered; none of the others is
// built in (CMakeLists.txt), so without a GPU this one is the first. It computes whole graphs on host memory: products
// that packed_product_takes() with the packed kernels, the rest as ggml's CPU backend does, on the same threads.
// Results do not depend on the number of threads.
void register_packed_backend();

// The backend itself, for graphs of one's own. Freed with ggml_backend_free().
ggml_backend_t packed_backend_init();

bool is_packed_backend(ggml_backend_t backend);

// Whether the packed kernels compute this MUL_MAT node. Depends on types, shapes and strides alone.
bool packed_product_takes(const ggml_tensor * product);

}  // namespace vg
