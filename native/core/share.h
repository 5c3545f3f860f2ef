// How threads share rows or columns of a result.
#pragma once

#include <algorithm>
#include <cstdint>

namespace vg {

struct Range {
    int64_t begin, end;
};

// The part of n that thread ith of nth owns, cut at multiples of `unit`.
inline Range share(int64_t n, int ith, int nth, int64_t unit) {
    const int64_t units = (n + unit - 1) / unit;
    return {std::min(n, units * ith / nth * unit), std::min(n, units * (ith + 1) / nth * unit)};
}

}  // namespace vg
