// Lets g++ compile the kernel files as C++ and run them on this machine's processor, for tests only: it shows what a
// kernel computes, not how fast. Threads of a block are fibers that really meet at barriers, in an order that is
// shuffled anew at each turn, so that a missing barrier shows; blocks run one after another. Shared and device memory
// begin as NaN and end at a page that faults.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

namespace vg::emulator {

struct Dim {
    unsigned x = 1, y = 1, z = 1;
    Dim(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

// Of the fiber that runs now.
extern Dim thread_index, block_index, block_size, grid_size;

// Runs f in every thread. Throws std::runtime_error when threads do not meet at a barrier, or not all lanes of a warp
// at a warp's.
void launch(Dim grid, Dim block, size_t shared, const std::function<void()> & f);
// The order of the threads from now on.
void seed(uint32_t value);

void sync_block();
// Hands in this lane's value and gives back those of all 32 lanes, valid until the lane's next exchange.
const double * exchange(double value);
unsigned char * shared_memory();

// Memory whose last byte lies before a page that faults (up to 15 bytes of alignment), filled with NaN.
void * allocate(size_t bytes);
void release(void * memory);

}  // namespace vg::emulator

#define __global__ static
#define __device__
#define __host__
#define threadIdx vg::emulator::thread_index
#define blockIdx vg::emulator::block_index
#define blockDim vg::emulator::block_size
#define gridDim vg::emulator::grid_size
#define __syncthreads vg::emulator::sync_block
#define __syncwarp() static_cast<void>(vg::emulator::exchange(0))
#define VG_LAUNCH(kernel, grid, block, shared, stream, ...)                                                            \
    static_cast<void>(stream), vg::emulator::launch((grid), (block), (shared), [=] { kernel(__VA_ARGS__); })
#define VG_SHARED(type, name) type * name = reinterpret_cast<type *>(vg::emulator::shared_memory())

using dim3 = vg::emulator::Dim;

inline float __uint_as_float(uint32_t bits) {
    float v;
    std::memcpy(&v, &bits, sizeof v);
    return v;
}
inline uint32_t __float_as_uint(float v) {
    uint32_t bits;
    std::memcpy(&bits, &v, sizeof bits);
    return bits;
}

namespace vg {

// In the order of the shuffles on a device.
template <class T> T warp_sum(T v) {
    const double * all = emulator::exchange(double(v));
    T sums[32];
    for (int i = 0; i < 32; ++i)
        sums[i] = T(all[i]);
    for (int offset = 16; offset > 0; offset /= 2) {
        for (int i = 0; i < offset; ++i)
            sums[i] += sums[i + offset];
    }
    return sums[0];
}
inline float warp_max(float v) {
    const double * all = emulator::exchange(double(v));
    float max = float(all[0]);
    for (int i = 1; i < 32; ++i)
        max = fmaxf(max, float(all[i]));
    return max;
}

}  // namespace vg
