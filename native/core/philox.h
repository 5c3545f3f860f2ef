// Philox 4x32-10, a counter-based random number generator: the number is a function of key and counter, so it does not
// depend on what was drawn before. Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
#pragma once

#include <array>
#include <cstdint>

namespace vg {

inline std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
    for (int round = 0; round < 10; ++round) {
        const uint64_t p0 = uint64_t{0xD2511F53} * counter[0];
        const uint64_t p1 = uint64_t{0xCD9E8D57} * counter[2];
        counter = {uint32_t(p1 >> 32) ^ counter[1] ^ key[0], uint32_t(p1), uint32_t(p0 >> 32) ^ counter[3] ^ key[1],
                   uint32_t(p0)};
        key[0] += 0x9E3779B9;
        key[1] += 0xBB67AE85;
    }
    return counter;
}

// Uniform in [0, 1) with 53 random bits.
inline double philox_uniform(uint64_t seed, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3) {
    const auto r = philox4x32({c0, c1, c2, c3}, {uint32_t(seed), uint32_t(seed >> 32)});
    return double((uint64_t(r[0]) << 21) ^ (uint64_t(r[1]) >> 11)) * 0x1.0p-53;
}

}  // namespace vg
