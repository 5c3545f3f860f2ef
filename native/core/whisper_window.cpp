#include "whisper_window.h"

#include <algorithm>

namespace vg {
namespace {

constexpr size_t SAMPLES_PER_POSITION = 320;
// Whisper learned on speech followed by silence up to 30 s, and needs some of that silence to find the end. With 2.5 s
// of it the word error rate of short clips is that of the full window; with less, words change and the decoder starts
// to repeat itself (docs/benchmarks.md).
constexpr size_t MARGIN = 128;
constexpr size_t STEP = 32;

// The fastest speech has about 7 tokens a second.
constexpr double MOST_TOKENS_PER_SECOND = 10;
constexpr size_t MOST_TOKENS_BESIDES = 20;  // timestamps, and the shortest clips
constexpr size_t LONGEST_PHRASE = 12;       // tokens that are looked for again
constexpr size_t FEWEST_REPEATS = 3;        // besides the first
constexpr size_t FEWEST_REPEATED = 10;      // tokens

}  // namespace

int fitted_context(size_t n, int model_context) {
    const size_t positions = (n + SAMPLES_PER_POSITION - 1) / SAMPLES_PER_POSITION + MARGIN;
    const size_t rounded = (positions + STEP - 1) / STEP * STEP;
    return int(std::min(rounded, size_t(model_context)));
}

bool rambles(const int * tokens, size_t n, double seconds) {
    if (double(n) > MOST_TOKENS_PER_SECOND * seconds + double(MOST_TOKENS_BESIDES)) {
        return true;
    }
    for (size_t phrase = 1; phrase <= LONGEST_PHRASE; phrase++) {
        const size_t repeated = std::max(FEWEST_REPEATS * phrase, FEWEST_REPEATED);
        if (n < repeated + phrase) {
            continue;
        }
        const int * end = tokens + n;
        if (std::equal(end - repeated, end, end - repeated - phrase)) {
            return true;
        }
    }
    return false;
}

}  // namespace vg
