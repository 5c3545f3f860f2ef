// How much of its window the encoder is given.
#include "core/whisper_window.h"
#include "test.h"

#include <vector>

using namespace vg;

TEST(fitted_window_covers_the_clip_and_a_margin) {
    for (size_t n : {size_t{1600}, size_t{16000}, size_t{64321}, size_t{160000}, size_t{300000}}) {
        const int positions = fitted_context(n, 1500);
        CHECK(size_t(positions) * 320 >= n + 2 * 16000);  // 2 s of silence at least
        CHECK(positions % 32 == 0);
        CHECK(size_t(positions) * 320 < n + 4 * 16000);
    }
}

TEST(fitted_window_is_never_more_than_the_models) {
    CHECK(fitted_context(480000, 1500) == 1500);
    CHECK(fitted_context(470000, 1500) == 1500);
    CHECK(fitted_context(size_t{1} << 40, 1500) == 1500);
    CHECK(fitted_context(16000, 100) == 100);
}

TEST(rambling_is_repetition_or_too_many_tokens) {
    const auto told = [](const std::vector<int> & tokens, double seconds) {
        return rambles(tokens.data(), tokens.size(), seconds);
    };
    std::vector<int> different, tail, once;
    for (int i = 0; i < 60; i++) {
        different.push_back(1000 + i);
        tail.push_back(i < 40 ? 1000 + i : i % 4);
    }
    CHECK(!told({}, 2));
    CHECK(!told(different, 10));
    CHECK(told(different, 3));  // 20 tokens a second
    CHECK(told(tail, 30));      // four tokens, five times
    CHECK(told(std::vector<int>(11, 7), 30));
    CHECK(!told(std::vector<int>(8, 7), 30));  // "no, no, no, no"
    // A sentence said twice is no trouble.
    once = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    CHECK(!told(once, 30));
    // Nor is what was repeated before and went on.
    tail.push_back(5000);
    CHECK(!told(tail, 30));
}
