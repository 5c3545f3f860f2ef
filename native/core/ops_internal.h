// Shared by ops*.cpp and head.cpp: tensors as plain float rows.
#pragma once

#include <cstring>

#include "gemm.h"
#include "ops.h"
#include "share.h"

namespace vg {

inline float * data(ggml_tensor * t) { return static_cast<float *>(t->data); }
inline const float * cdata(const ggml_tensor * t) { return static_cast<const float *>(t->data); }
inline int64_t stride(const ggml_tensor * t) { return int64_t(t->nb[1] / sizeof(float)); }
inline const float * row(const ggml_tensor * t, int64_t i) { return cdata(t) + i * stride(t); }
inline float * row(ggml_tensor * t, int64_t i) { return data(t) + i * stride(t); }

// Row i of a matrix of any type, as floats.
inline void stored_row(const ggml_tensor * w, int64_t i, float * to) {
    const char * from = static_cast<const char *>(w->data) + size_t(i) * w->nb[1];
    if (w->type == GGML_TYPE_F32) {
        std::memcpy(to, from, size_t(w->ne[0]) * sizeof(float));
    } else {
        ggml_get_type_traits(w->type)->to_float(from, to, w->ne[0]);
    }
}

inline GemmWeights weights_of(const ggml_tensor * w) { return {w->data, w->type, w->nb[1], w->ne[1], w->ne[0]}; }

inline GemmWeights rows_of(const float * p, int64_t row_floats, int64_t rows, int64_t cols) {
    return {p, GGML_TYPE_F32, size_t(row_floats) * sizeof(float), rows, cols};
}

}  // namespace vg
