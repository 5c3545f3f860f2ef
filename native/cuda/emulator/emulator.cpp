#include "emulator.h"

#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <map>
#include <new>
#include <random>
#include <stdexcept>
#include <vector>

namespace vg::emulator {

Dim thread_index, block_index, block_size, grid_size;

namespace {

constexpr size_t kStack = 64 * 1024;

enum State { READY, AT_BLOCK, AT_WARP, DONE };
struct Fiber {
    ucontext_t context;
    State state;
    std::vector<char> stack = std::vector<char>(kStack);
};
struct Warp {
    double handed[32], seen[32];
};

std::vector<Fiber> fibers;
std::vector<Warp> warps;
std::vector<unsigned> order;
ucontext_t scheduler;
unsigned current;
const std::function<void()> * body;
unsigned char * shared;
std::mt19937 random_order(1);

struct Mapping {
    void * base;
    size_t bytes;
};
std::map<void *, Mapping> mappings;

void enter() {
    (*body)();
    fibers[current].state = DONE;
    swapcontext(&fibers[current].context, &scheduler);
}

void wait(State state) {
    fibers[current].state = state;
    const Dim index = thread_index;
    const unsigned own = current;
    swapcontext(&fibers[own].context, &scheduler);
    current = own;
    thread_index = index;
}

void run_block() {
    const unsigned n = block_size.x;
    for (unsigned i = 0; i < n; ++i) {
        getcontext(&fibers[i].context);
        fibers[i].context.uc_stack.ss_sp = fibers[i].stack.data();
        fibers[i].context.uc_stack.ss_size = kStack;
        fibers[i].context.uc_link = nullptr;
        fibers[i].state = READY;
        makecontext(&fibers[i].context, enter, 0);
    }
    for (;;) {
        std::shuffle(order.begin(), order.begin() + n, random_order);
        for (unsigned k = 0; k < n; ++k) {
            const unsigned i = order[k];
            if (fibers[i].state != READY)
                continue;
            current = i;
            thread_index = Dim(i, 0, 0);
            swapcontext(&scheduler, &fibers[i].context);
        }
        unsigned at[4] = {};
        bool released = false;
        for (unsigned w = 0; w < n / 32; ++w) {
            unsigned waiting = 0;
            for (unsigned i = w * 32; i < w * 32 + 32; ++i) {
                at[fibers[i].state]++;
                waiting += fibers[i].state == AT_WARP;
            }
            if (waiting == 0)
                continue;
            if (waiting != 32)
                throw std::runtime_error("the lanes of a warp do not meet");
            std::memcpy(warps[w].seen, warps[w].handed, sizeof warps[w].seen);
            for (unsigned i = w * 32; i < w * 32 + 32; ++i)
                fibers[i].state = READY;
            released = true;
        }
        if (released)
            continue;
        if (at[DONE] == n)
            return;
        if (at[AT_BLOCK] != n)
            throw std::runtime_error("the threads of a block do not meet at a barrier");
        for (unsigned i = 0; i < n; ++i)
            fibers[i].state = READY;
    }
}

}  // namespace

void seed(uint32_t value) { random_order.seed(value); }

void launch(Dim grid, Dim block, size_t shared_bytes, const std::function<void()> & f) {
    if (block.x % 32 != 0 || block.x == 0 || block.x > 1024 || block.y != 1 || block.z != 1 || shared_bytes > 48 * 1024)
        throw std::runtime_error("a launch that a device would refuse");
    if (grid.x == 0 || grid.y == 0 || grid.y > 65535)
        throw std::runtime_error("a grid that a device would refuse");
    fibers.resize(std::max<size_t>(fibers.size(), block.x));
    warps.resize(fibers.size() / 32);
    order.resize(block.x);
    for (unsigned i = 0; i < block.x; ++i)
        order[i] = i;
    block_size = block;
    grid_size = grid;
    body = &f;
    for (unsigned y = 0; y < grid.y; ++y) {
        for (unsigned x = 0; x < grid.x; ++x) {
            block_index = Dim(x, y, 0);
            shared = static_cast<unsigned char *>(allocate(std::max<size_t>(shared_bytes, 16)));
            try {
                run_block();
            } catch (...) {
                release(shared);
                throw;
            }
            release(shared);
        }
    }
}

void sync_block() { wait(AT_BLOCK); }

const double * exchange(double value) {
    const unsigned i = current;
    warps[i / 32].handed[i % 32] = value;
    wait(AT_WARP);
    return warps[i / 32].seen;
}

unsigned char * shared_memory() { return shared; }

void * allocate(size_t bytes) {
    const size_t page = size_t(sysconf(_SC_PAGESIZE));
    const size_t used = (bytes + 15) / 16 * 16, whole = (used + page - 1) / page * page;
    void * base = mmap(nullptr, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        throw std::bad_alloc();
    mprotect(static_cast<char *>(base) + whole, page, PROT_NONE);
    void * memory = static_cast<char *>(base) + whole - used;
    std::memset(memory, 0xff, used);
    mappings[memory] = {base, whole + page};
    return memory;
}

void release(void * memory) {
    const auto at = mappings.find(memory);
    munmap(at->second.base, at->second.bytes);
    mappings.erase(at);
}

}  // namespace vg::emulator
