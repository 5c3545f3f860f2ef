#include "device_probe.h"

#include <atomic>

#include <cuda_runtime.h>

namespace vg {
namespace {

std::atomic<int> used{0};

// Compiled for the same architectures as every other kernel, so where this one has no image none has.
__global__ void image_of_this_build() {}

// The error is taken: it must not be met again by a later, innocent call.
bool failed(cudaError_t status, std::string & error, std::string & message) {
    if (status == cudaSuccess) {
        return false;
    }
    error = cudaGetErrorName(status);
    message = cudaGetErrorString(status);
    cudaGetLastError();
    return true;
}

}  // namespace

CudaProbe probe_cuda() {
    CudaProbe probe;
    probe.runtime = CUDART_VERSION;
    if (failed(cudaDriverGetVersion(&probe.driver), probe.error, probe.message)) {
        return probe;
    }
    int count = 0;
    if (failed(cudaGetDeviceCount(&count), probe.error, probe.message)) {
        return probe;
    }
    for (int index = 0; index < count; index++) {
        cudaDeviceProp properties{};
        if (failed(cudaGetDeviceProperties(&properties, index), probe.error, probe.message)) {
            return probe;
        }
        CudaDevice device;
        device.index = index;
        device.name = properties.name;
        device.major = properties.major;
        device.minor = properties.minor;
        device.total = properties.totalGlobalMem;
        probe.devices.push_back(device);
    }
    return probe;
}

CudaOpened open_cuda(int index) {
    CudaOpened opened;
    cudaFuncAttributes attributes{};
    size_t total = 0;
    // cudaFree(nullptr) makes the context: a device that is busy or full refuses here.
    if (failed(cudaSetDevice(index), opened.error, opened.message) ||
        failed(cudaFree(nullptr), opened.error, opened.message) ||
        failed(cudaFuncGetAttributes(&attributes, image_of_this_build), opened.error, opened.message) ||
        failed(cudaMemGetInfo(&opened.free, &total), opened.error, opened.message)) {
        opened.free = 0;
    }
    return opened;
}

void use_cuda(int index) { used = index; }

int used_cuda() { return used; }

}  // namespace vg
