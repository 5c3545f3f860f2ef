// What the CUDA runtime says about this machine's GPUs, as facts; sentences are made of them in src/native/devices.ts.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace vg {

struct CudaDevice {
    int index = 0;
    std::string name;
    int major = 0, minor = 0;  // compute capability
    size_t total = 0;          // bytes
};

// One device, with a context made on it, which takes some hundred MB of it.
struct CudaOpened {
    std::string error;    // name of the CUDA error, such as cudaErrorMemoryAllocation; empty: it can be used
    std::string message;  // what CUDA says about it
    size_t free = 0;      // bytes, beside the context
};

struct CudaProbe {
    int runtime = 0;  // version the addon was built with: 1000 · major + 10 · minor
    int driver = 0;   // newest version the driver can serve; 0: no driver
    std::string error, message;
    std::vector<CudaDevice> devices;  // in CUDA's order, as CUDA_VISIBLE_DEVICES leaves them
};

// Makes no context and takes no memory of a GPU. Never throws.
CudaProbe probe_cuda();

// Makes a context on the device and asks whether a kernel of this build runs on it. Never throws.
CudaOpened open_cuda(int index);

// The device of this process: what whisper and policy are opened on from then on. 0 until it is set.
void use_cuda(int index);
int used_cuda();

}  // namespace vg
