// Pages that go back to the system.
#include "core/memory_pages.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "test.h"

using namespace vg;

TEST(only_whole_pages_inside_are_returned) {
    constexpr size_t PAGE = 65536;  // the largest of a Linux system
    constexpr size_t BYTES = 8 * PAGE;
    auto * memory = static_cast<unsigned char *>(std::aligned_alloc(PAGE, BYTES));
    CHECK(memory != nullptr);
    std::memset(memory, 7, BYTES);
    const size_t from = PAGE - 5, to = 5 * PAGE + 9;  // pages 1 to 4 lie within
    return_pages(memory + from, to - from);
    const auto all = [&](size_t a, size_t b, unsigned char value) {
        return std::all_of(memory + a, memory + b, [&](unsigned char byte) { return byte == value; });
    };
    CHECK(all(0, PAGE, 7));
    CHECK(all(5 * PAGE + 9, BYTES, 7));
#ifdef __linux__
    CHECK(all(PAGE, 5 * PAGE, 0));
#endif
    std::memset(memory, 3, BYTES);  // it is still ours
    CHECK(all(0, BYTES, 3));
    return_pages(memory + 1, 100);  // holds no page
    return_pages(memory + 1, 0);
    CHECK(all(0, BYTES, 3));
    std::free(memory);
}
