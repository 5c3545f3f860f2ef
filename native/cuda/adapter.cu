// AdamW with the gradient's norm, and the adapter's fingerprint: twins of native/core/adamw.cpp and lora.cpp. All
// matrices of an adapter in one launch.
#include "launch.cuh"

namespace vg {
namespace {

constexpr int kThreads = 256;
constexpr size_t kRoom = kThreads / kWarp * sizeof(double);

__global__ void sum_squares(const DeviceParameter * parameters, double * sums) {
    VG_SHARED(double, room);
    const DeviceParameter p = parameters[blockIdx.x];
    double sum = 0;
    for (int64_t i = threadIdx.x; i < p.size; i += blockDim.x)
        sum += double(p.gradient[i]) * double(p.gradient[i]);
    sum = block_sum(sum, room);
    if (threadIdx.x == 0)
        sums[blockIdx.x] = sum;
}

__global__ void update(const DeviceParameter * parameters, DeviceAdamW o) {
    const DeviceParameter p = parameters[blockIdx.y];
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= p.size)
        return;
    const double g = double(p.gradient[i]) * o.clip;
    const double a = o.beta1 * double(p.exp_avg[i]) + (1 - o.beta1) * g;
    const double s = o.beta2 * double(p.exp_avg_sq[i]) + (1 - o.beta2) * g * g;
    p.exp_avg[i] = float(a);
    p.exp_avg_sq[i] = float(s);
    p.value[i] = float(double(p.value[i]) * o.decay -
                       o.learning_rate / o.correction1 * a / (sqrt(s) / o.correction2 + o.epsilon));
}

// A sum over places of a mix of value and place: integers, so the order is nothing. The constants are splitmix64's.
__global__ void hash_values(const DeviceParameter * parameters, uint64_t * hashes) {
    VG_SHARED(uint64_t, room);
    const DeviceParameter p = parameters[blockIdx.x];
    uint64_t sum = 0;
    for (int64_t i = threadIdx.x; i < p.size; i += blockDim.x) {
        uint64_t z = (uint64_t(i) << 32 | __float_as_uint(p.value[i])) + 0x9e3779b97f4a7c15ull;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
        sum += z ^ (z >> 31);
    }
    room[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x != 0)
        return;
    for (unsigned i = 1; i < blockDim.x; ++i)
        sum += room[i];
    hashes[blockIdx.x] = sum;
}

}  // namespace

void set_adapter_kernels(Kernels & k) {
    k.square_sums = [](Stream s, const DeviceParameter * parameters, double * sums, int64_t n) {
        VG_LAUNCH(sum_squares, unsigned(n), kThreads, kRoom, s, parameters, sums);
    };
    k.adamw = [](Stream s, const DeviceParameter * parameters, int64_t n, int64_t largest, DeviceAdamW options) {
        VG_LAUNCH(update, dim3(blocks_for(largest, kThreads), unsigned(n)), kThreads, 0, s, parameters, options);
    };
    k.hash = [](Stream s, const DeviceParameter * parameters, uint64_t * hashes, int64_t n) {
        VG_LAUNCH(hash_values, unsigned(n), kThreads, kThreads * sizeof(uint64_t), s, parameters, hashes);
    };
}

}  // namespace vg
