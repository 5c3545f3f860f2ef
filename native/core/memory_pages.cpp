#include "memory_pages.h"

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#endif

namespace vg {

#ifdef __linux__
void return_pages(void * begin, size_t bytes) {
    const uintptr_t page = uintptr_t(sysconf(_SC_PAGESIZE));
    const uintptr_t from = (reinterpret_cast<uintptr_t>(begin) + page - 1) / page * page;
    const uintptr_t to = (reinterpret_cast<uintptr_t>(begin) + bytes) / page * page;
    if (from < to) {
        madvise(reinterpret_cast<void *>(from), to - from, MADV_DONTNEED);  // where it fails nothing is lost
    }
}
#else
void return_pages(void *, size_t) {}
#endif

}  // namespace vg
