// Included by every kernel file: NVIDIA's compiler, or the emulator that g++ compiles the same files with (tests only).
// A block's threads are a multiple of 32, and its shared memory is dynamic.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>

#include "kernels.h"

#ifdef VOICEGRPO_DEVICE_EMULATOR
#include "emulator/emulator.h"
#else
#define VG_LAUNCH(kernel, grid, block, shared, stream, ...)                                                            \
    kernel<<<(grid), (block), (shared), static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__)
#define VG_SHARED(type, name)                                                                                          \
    extern __shared__ __align__(16) unsigned char vg_shared[];                                                         \
    type * name = reinterpret_cast<type *>(vg_shared)
#endif

namespace vg {

constexpr int kWarp = 32;

#ifndef VOICEGRPO_DEVICE_EMULATOR
// Of all lanes, in a fixed order; every lane gets the result.
template <class T> __device__ inline T warp_sum(T v) {
    for (int offset = kWarp / 2; offset > 0; offset /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, offset);
    return v;
}
__device__ inline float warp_max(float v) {
    for (int offset = kWarp / 2; offset > 0; offset /= 2)
        v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, offset));
    return v;
}
#endif

// Of all threads of a block; room: one T for each warp, of shared memory. Every thread gets the result.
template <class T> __device__ inline T block_sum(T v, T * room) {
    v = warp_sum(v);
    __syncthreads();
    if (threadIdx.x % kWarp == 0)
        room[threadIdx.x / kWarp] = v;
    __syncthreads();
    T sum = 0;
    for (unsigned i = 0; i < blockDim.x / kWarp; ++i)
        sum += room[i];
    return sum;
}
__device__ inline float block_max(float v, float * room) {
    v = warp_max(v);
    __syncthreads();
    if (threadIdx.x % kWarp == 0)
        room[threadIdx.x / kWarp] = v;
    __syncthreads();
    float max = room[0];
    for (unsigned i = 1; i < blockDim.x / kWarp; ++i)
        max = fmaxf(max, room[i]);
    return max;
}

__device__ inline float from_bf16(uint16_t bits) { return __uint_as_float(uint32_t(bits) << 16); }
__device__ inline uint16_t to_bf16(float v) {
    const uint32_t bits = __float_as_uint(v);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return uint16_t((bits >> 16) | 64);  // NaN stays NaN
    return uint16_t((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}
__device__ inline float weight_at(const DeviceWeights & w, int64_t row, int64_t column) {
    const int64_t i = row * w.stride + column;
    return w.bf16 ? from_bf16(static_cast<const uint16_t *>(w.data)[i]) : static_cast<const float *>(w.data)[i];
}

inline unsigned blocks_for(int64_t n, int64_t each) { return unsigned((n + each - 1) / each); }

}  // namespace vg
