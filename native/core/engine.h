// The CPU backend: threads, graph memory that is reused between steps, and per-thread scratch for the packed product.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml.h"

namespace vg {

using AbortFlag = std::atomic<bool>;

// A ggml context for tensor headers only; the data comes from a graph allocator or a backend buffer.
struct ContextDeleter {
    void operator()(ggml_context * ctx) const { ggml_free(ctx); }
};
using Context = std::unique_ptr<ggml_context, ContextDeleter>;
Context make_context(size_t n_tensors, size_t n_graph_nodes = 0);

struct BufferDeleter {
    void operator()(ggml_backend_buffer_t buffer) const { ggml_backend_buffer_free(buffer); }
};
using Buffer = std::unique_ptr<ggml_backend_buffer, BufferDeleter>;

class Engine {
  public:
    explicit Engine(int threads);
    ~Engine();
    Engine(const Engine &) = delete;

    int threads() const { return threads_; }
    ggml_backend_t backend() const { return backend_; }

    // Gives every tensor of ctx memory. Throws E_LIMIT when there is none.
    Buffer allocate(ggml_context * ctx, const char * what) const;

    // Places the tensors that have no memory yet in the arena; set inputs afterwards, then run(). What a graph marked
    // as output stays valid until the next graph. Throws E_LIMIT when memory is short.
    void place(ggml_cgraph * graph);
    // flops: about how much work it is. A small graph runs on fewer threads: meeting the others at every node would
    // cost more than it saves, above all beside a busy neighbour. Results do not depend on the number of threads.
    void run(ggml_cgraph * graph, double flops);

    // f(thread, threads) on as many threads as the work is worth, returning when all are done.
    void parallel(double flops, const std::function<void(int, int)> & f);

    void reserve_scratch(size_t bytes);
    void * scratch(int thread) const { return scratch_[size_t(thread)].get(); }

    // Where the time of custom nodes goes, as thread 0 sees it. Grows for ever; read it before and after.
    enum Work { OTHER = 0, LINEAR = 1, LORA = 2, ATTENTION = 3, N_WORK = 4 };
    using WorkSeconds = std::array<double, N_WORK>;
    const WorkSeconds & work_seconds() const { return work_seconds_; }
    void add_work(Work work, double seconds) { work_seconds_[work] += seconds; }

    // Polled between graph nodes; run() and parallel() throw E_ABORTED once it is set.
    void set_abort(const AbortFlag * flag) { abort_ = flag; }
    void check_abort() const;

  private:
    struct Free {
        void operator()(void * p) const;
    };
    int threads_;
    ggml_backend_t backend_ = nullptr;
    ggml_gallocr_t arena_ = nullptr;
    std::vector<std::unique_ptr<void, Free>> scratch_;
    size_t scratch_bytes_ = 0;
    WorkSeconds work_seconds_ = {};
    const AbortFlag * abort_ = nullptr;
};

}  // namespace vg
