#include "engine.h"

#include <algorithm>
#include <cstdlib>
#include <string>

#include "error.h"
#include "ggml-cpu.h"

namespace vg {

Context make_context(size_t n_tensors, size_t n_graph_nodes) {
    ggml_init_params params = {};
    params.mem_size = n_tensors * ggml_tensor_overhead();
    if (n_graph_nodes > 0)
        params.mem_size += ggml_graph_overhead_custom(n_graph_nodes, false);
    params.mem_size += 1024;
    params.no_alloc = true;
    return Context(ggml_init(params));
}

void Engine::Free::operator()(void * p) const { std::free(p); }

Engine::Engine(int threads) : threads_(threads) {
    if (threads < 1 || threads > 512) {
        throw Error("E_ARGUMENT", "threads must be between 1 and 512, not " + std::to_string(threads));
    }
    backend_ = ggml_backend_cpu_init();
    if (!backend_)
        throw Error("E_INTERNAL", "ggml's CPU backend could not be started");
    ggml_backend_cpu_set_n_threads(backend_, threads);
    ggml_backend_cpu_set_abort_callback(
        backend_,
        [](void * data) {
            const AbortFlag * flag = static_cast<Engine *>(data)->abort_;
            return flag != nullptr && flag->load(std::memory_order_relaxed);
        },
        this);
    arena_ = ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend_));
    scratch_.resize(size_t(threads));
}

Engine::~Engine() {
    ggml_gallocr_free(arena_);
    ggml_backend_free(backend_);
}

Buffer Engine::allocate(ggml_context * ctx, const char * what) const {
    Buffer buffer(ggml_backend_alloc_ctx_tensors(ctx, backend_));
    if (!buffer) {
        throw Error("E_LIMIT", std::string("there is not enough memory for ") + what,
                    "close other programs, or choose a smaller model, --type or batch");
    }
    return buffer;
}

void Engine::place(ggml_cgraph * graph) {
    // Planned anew each time: alloc_graph alone keeps the last plan for a graph of as many nodes of the same sizes,
    // whatever tensors this one marks as output or reads where, and so lets kept tensors be overwritten.
    if (!ggml_gallocr_reserve(arena_, graph) || !ggml_gallocr_alloc_graph(arena_, graph)) {
        throw Error("E_LIMIT", "there is not enough memory for this batch",
                    "lower prompts per step, num_generations or max_completion_length");
    }
}

void Engine::check_abort() const {
    if (abort_ != nullptr && abort_->load(std::memory_order_relaxed))
        throw Error("E_ABORTED", "stopped on request");
}

// Work that keeps a thread busy for about a tenth of a millisecond.
static constexpr double kFlopsPerThread = 1e7;

void Engine::run(ggml_cgraph * graph, double flops) {
    check_abort();
    ggml_backend_cpu_set_n_threads(backend_, int(std::clamp(flops / kFlopsPerThread, 1.0, double(threads_))));
    const ggml_status status = ggml_backend_graph_compute(backend_, graph);
    check_abort();
    if (status != GGML_STATUS_SUCCESS) {
        throw Error("E_INTERNAL", std::string("the graph failed: ") + ggml_status_to_string(status));
    }
}

void Engine::parallel(double flops, const std::function<void(int, int)> & f) {
    Context ctx = make_context(2, 8);
    ggml_cgraph * graph = ggml_new_graph_custom(ctx.get(), 8, false);
    float unused = 0;
    ggml_tensor * node = ggml_custom_4d(
        ctx.get(), GGML_TYPE_F32, 1, 1, 1, 1, nullptr, 0,
        [](ggml_tensor *, int ith, int nth, void * data) {
            (*static_cast<const std::function<void(int, int)> *>(data))(ith, nth);
        },
        GGML_N_TASKS_MAX, const_cast<void *>(static_cast<const void *>(&f)));
    node->data = &unused;
    ggml_build_forward_expand(graph, node);
    run(graph, flops);
}

void Engine::reserve_scratch(size_t bytes) {
    if (bytes <= scratch_bytes_)
        return;
    bytes = (bytes + 63) / 64 * 64;
    for (auto & s : scratch_) {
        s.reset(std::aligned_alloc(64, bytes));
        if (!s)
            throw Error("E_LIMIT", "there is not enough memory for the matrix product's work space");
    }
    scratch_bytes_ = bytes;
}

}  // namespace vg
