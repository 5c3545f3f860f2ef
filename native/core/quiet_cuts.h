// Where audio is cut that is longer than a model's window.
#pragma once

#include <cstddef>
#include <vector>

namespace vg {

// Ends of the pieces of n samples at 16 kHz, from 0 to n: each piece is at most `window` samples long, and all but the
// last end in the middle of the quietest 100 ms of the last 40% of a window.
// Throws E_INTERNAL for a window of less than 0.25 s, whose 40% do not hold that.
std::vector<size_t> quiet_cuts(const float * samples, size_t n, size_t window);

}  // namespace vg
