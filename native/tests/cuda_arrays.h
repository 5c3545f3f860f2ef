// The table of kernels, and arrays in emulated device memory.
#pragma once

#include <algorithm>
#include <vector>

#include "emulator/emulator.h"
#include "evaluation.h"
#include "kernels.h"

namespace vg::test {

inline const Kernels & kernels() {
    static const Kernels table = [] {
        Kernels k = {};
        set_row_kernels(k);
        set_attention_kernels(k);
        set_head_kernels(k);
        set_adapter_kernels(k);
        return k;
    }();
    return table;
}

// An array in emulated device memory: begins as NaN, faults behind its end.
template <class T> struct Array {
    T * data;
    size_t size;
    explicit Array(size_t n) : data(static_cast<T *>(emulator::allocate(n * sizeof(T)))), size(n) {}
    explicit Array(const std::vector<T> & values) : Array(values.size()) {
        std::copy(values.begin(), values.end(), data);
    }
    Array(const Array &) = delete;
    ~Array() { emulator::release(data); }
    std::vector<T> values() const { return {data, data + size}; }
};
using Floats = Array<float>;
using Ints = Array<int32_t>;

inline DeviceRows rows(const Floats & a, int64_t stride) { return {a.data, stride}; }
constexpr DeviceRows kNone = {nullptr, 0};

inline void check_same(const Values & got, const Values & want, double tolerance) {
    CHECK(got.size() == want.size());
    for (size_t i = 0; i < want.size(); ++i)
        CHECK_CLOSE(double(got[i]), double(want[i]), tolerance);
}

}  // namespace vg::test
