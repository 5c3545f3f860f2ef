#include "rope.h"

#include <cmath>

namespace vg {

RopeTable::RopeTable(int head_dim, float base, float scale) {
    // In f32, as PyTorch computes them: at position 1000 the rounding of a frequency is a visible part of the angle.
    for (int i = 0; i < head_dim; i += 2)
        frequencies_.push_back(1.0f / std::pow(base, float(i) / float(head_dim)) * scale);
}

void RopeTable::reserve(int64_t n) {
    for (auto position = int64_t(cos_.size()) / half(); position < n; ++position) {
        for (const float frequency : frequencies_) {
            const double angle = double(frequency * float(position));
            cos_.push_back(float(std::cos(angle)));
            sin_.push_back(float(std::sin(angle)));
        }
    }
}

}  // namespace vg
