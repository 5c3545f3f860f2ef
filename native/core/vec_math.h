// Small float vectors through the compiler's vector extension, lowered to whatever the target has.
#pragma once

#include <cstdint>
#include <cstring>

namespace vg {

constexpr int kVec = 16;
typedef float vf __attribute__((vector_size(4 * kVec)));
typedef int32_t vi __attribute__((vector_size(4 * kVec)));

static inline vf vf_load(const float * p) {
    vf v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

static inline void vf_store(float * p, const vf & v) { std::memcpy(p, &v, sizeof v); }

static inline vf vf_set(float x) { return vf{} + x; }

static inline float vf_sum(const vf & v) {
    float s = 0;
    for (int i = 0; i < kVec; ++i)
        s += v[i];
    return s;
}

static inline float vf_max(const vf & v) {
    float m = v[0];
    for (int i = 1; i < kVec; ++i)
        m = v[i] > m ? v[i] : m;
    return m;
}

// e^x within 2 ulp; arguments are clamped to [-87, 88]. NaN stays NaN. Range reduction and polynomial as in Cephes'
// expf.
static inline vf vf_exp(vf x) {
    x = x < -87.0f ? vf_set(-87.0f) : x;
    x = x > 88.0f ? vf_set(88.0f) : x;
    const vf t =
        x * 1.44269504088896341f + 12582912.0f;  // 1.5·2^23: rounds to an integer, kept in the low mantissa bits
    const vf n = t - 12582912.0f;
    const vf r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    vf y = vf_set(1.9875691500e-4f);
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    vi bits, exponent;
    std::memcpy(&bits, &y, sizeof bits);
    std::memcpy(&exponent, &t, sizeof exponent);
    bits += exponent << 23;
    vf result;
    std::memcpy(&result, &bits, sizeof result);
    return x == x ? result : x;
}

// Applies `f` to n floats, the tail through a padded vector.
template <typename F> static inline void vf_map(const float * in, float * out, int64_t n, F f) {
    int64_t i = 0;
    for (; i + kVec <= n; i += kVec)
        vf_store(out + i, f(vf_load(in + i)));
    if (i < n) {
        float tail[kVec] = {};
        std::memcpy(tail, in + i, size_t(n - i) * sizeof(float));
        vf_store(tail, f(vf_load(tail)));
        std::memcpy(out + i, tail, size_t(n - i) * sizeof(float));
    }
}

}  // namespace vg
