// Rotary position embedding. Su et al., "RoFormer", 2021; the second half of a head is turned with the first, as in
// Hugging Face's Gemma 3.
#pragma once

#include <cstdint>
#include <vector>

#include "gemma3.h"

namespace vg {

// cos and sin of position · base^(-2i / head_dim) · scale for i < head_dim / 2.
class RopeTable {
  public:
    RopeTable(int head_dim, float base, float scale);

    // Makes rows for the positions [0, n).
    void reserve(int64_t n);
    int64_t half() const { return int64_t(frequencies_.size()); }
    const float * cos(int64_t position) const { return cos_.data() + position * half(); }
    const float * sin(int64_t position) const { return sin_.data() + position * half(); }

  private:
    std::vector<float> frequencies_, cos_, sin_;
};

// Sliding layers turn by another base than the others. Kept between passes.
class Ropes {
  public:
    explicit Ropes(const Gemma3Params & p)
        : sliding_(p.head_dim, p.rope_base_local, 1), full_(p.head_dim, p.rope_base, p.rope_scale) {}
    void reserve(int64_t positions) {
        sliding_.reserve(positions);
        full_.reserve(positions);
    }
    const RopeTable & of(bool sliding) const { return sliding ? sliding_ : full_; }

  private:
    RopeTable sliding_, full_;
};

}  // namespace vg
