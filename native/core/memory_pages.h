#pragma once

#include <cstddef>

namespace vg {

// Gives the whole pages in [begin, begin + bytes) back to the system. The memory stays allocated; what was in those
// pages is lost, and read as zeros where the memory is private and has no file behind it (Linux, madvise(2)). Does
// nothing on other systems.
void return_pages(void * begin, size_t bytes);

}  // namespace vg
