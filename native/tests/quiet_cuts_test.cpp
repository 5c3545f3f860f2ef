// Cutting audio that is longer than a window.
#include "core/quiet_cuts.h"

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "test.h"

using namespace vg;

TEST(cuts_lie_where_it_is_quiet) {
    std::vector<float> samples(16000 * 25, 0.1f);
    std::fill_n(samples.begin() + 16000 * 8, 3200, 0.0f);  // 8 to 8.2 s
    CHECK(
        (quiet_cuts(samples.data(), samples.size(), 160000) == std::vector<size_t>{0, 128800, 225600, 322400, 400000}));
    CHECK((quiet_cuts(samples.data(), 160000, 160000) == std::vector<size_t>{0, 160000}));
    CHECK((quiet_cuts(samples.data(), 0, 160000) == std::vector<size_t>{0, 0}));
}

TEST(cuts_of_the_shortest_windows_stay_inside) {
    for (size_t window : {size_t{4000}, size_t{4001}, size_t{5000}, size_t{16000}}) {
        const std::vector<float> samples(window * 7 + 3, 0.5f);  // no more: the sanitizers see what is read behind it
        const std::vector<size_t> cuts = quiet_cuts(samples.data(), samples.size(), window);
        CHECK(cuts.front() == 0 && cuts.back() == samples.size());
        for (size_t i = 0; i + 1 < cuts.size(); i++) {
            CHECK(cuts[i + 1] > cuts[i] && cuts[i + 1] - cuts[i] <= window);
        }
    }
    const std::vector<float> samples(16000, 0.5f);
    for (size_t window : {size_t{0}, size_t{1}, size_t{640}, size_t{3999}}) {
        CHECK_ERROR(quiet_cuts(samples.data(), samples.size(), window), "E_INTERNAL");
    }
}
