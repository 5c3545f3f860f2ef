#include "quiet_cuts.h"

#include <cmath>
#include <string>

#include "error.h"

namespace vg {
namespace {

constexpr size_t FRAME = 1600;  // samples
constexpr size_t HOP = 160;
constexpr size_t SHORTEST_WINDOW = FRAME * 10 / 4;

}  // namespace

std::vector<size_t> quiet_cuts(const float * samples, size_t n, size_t window) {
    if (window < SHORTEST_WINDOW) {
        throw Error("E_INTERNAL", "audio was to be cut into windows of " + std::to_string(window) + " samples");
    }
    std::vector<size_t> cuts = {0};
    while (n - cuts.back() > window) {
        const size_t begin = cuts.back() + window * 6 / 10, end = cuts.back() + window - FRAME;
        size_t best = end;
        double quietest = INFINITY;
        for (size_t at = begin; at <= end; at += HOP) {
            double energy = 0;
            for (size_t i = at; i < at + FRAME; i++) {
                energy += double(samples[i]) * samples[i];
            }
            if (energy < quietest) {
                quietest = energy;
                best = at;
            }
        }
        cuts.push_back(best + FRAME / 2);
    }
    cuts.push_back(n);
    return cuts;
}

}  // namespace vg
