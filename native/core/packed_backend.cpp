#include "packed_backend.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include "gemm.h"
#include "ggml-backend-impl.h"
#include "ggml-cpu.h"
#include "packed_attention.h"

namespace vg {
namespace {

struct Free {
    void operator()(void * p) const { std::free(p); }
};

struct Context {
    ggml_backend_t cpu = nullptr;
    int threads = GGML_DEFAULT_N_THREADS;
    size_t scratch_bytes = 0;
    std::vector<std::unique_ptr<void, Free>> scratch;  // one for each thread

    ~Context() { ggml_backend_free(cpu); }

    bool reserve(size_t bytes) {
        bytes = (bytes + 63) / 64 * 64;
        if (bytes > scratch_bytes) {
            scratch.clear();
            scratch_bytes = bytes;
        }
        while (int(scratch.size()) < threads) {
            scratch.emplace_back(std::aligned_alloc(64, scratch_bytes));
            if (!scratch.back()) {
                scratch.pop_back();
                return false;
            }
        }
        return true;
    }
};

GemmWeights matrix(const ggml_tensor * t, int64_t i2, int64_t i3) {
    return {static_cast<const char *>(t->data) + i2 * int64_t(t->nb[2]) + i3 * int64_t(t->nb[3]), t->type, t->nb[1],
            t->ne[1], t->ne[0]};
}

// A node of the graph while it runs: dst = src[0] · src[1] for each matrix of src[1], src[0] repeated as often as it
// takes. ggml_custom_op_t.
void multiply(ggml_tensor * dst, int ith, int nth, void * data) {
    Context & context = *static_cast<Context *>(data);
    const ggml_tensor * w = dst->src[0];
    const ggml_tensor * x = dst->src[1];
    const int64_t matrices = dst->ne[2] * dst->ne[3];
    const int64_t repeat2 = x->ne[2] / w->ne[2], repeat3 = x->ne[3] / w->ne[3];
    void * scratch = context.scratch[size_t(ith)].get();
    // Whole matrices for each thread where there are enough of them (the heads of an attention).
    const bool whole = matrices >= nth;
    for (int64_t i = whole ? ith : 0; i < matrices; i += whole ? nth : 1) {
        const int64_t i2 = i % dst->ne[2], i3 = i / dst->ne[2];
        char * y = static_cast<char *>(dst->data) + i2 * int64_t(dst->nb[2]) + i3 * int64_t(dst->nb[3]);
        gemm_stored(matrix(w, i2 / repeat2, i3 / repeat3), matrix(x, i2, i3), reinterpret_cast<float *>(y),
                    int64_t(dst->nb[1] / sizeof(float)), whole ? 0 : ith, whole ? 1 : nth, scratch);
    }
}

// The three nodes of an attention (packed_attention.h): all is done in the place of the scores, and carried on from
// there.
void attend(ggml_tensor * scores, int ith, int nth, void * data) {
    packed_attention(scores, ith, nth, static_cast<Context *>(data)->scratch[size_t(ith)].get());
}

void carry_to_softmax(ggml_tensor *, int ith, int, void * data) {
    const PackedAttention & attention = *static_cast<const PackedAttention *>(data);
    if (ith == 0 && attention.softmax->data != attention.scores->data) {
        std::memcpy(attention.softmax->data, attention.scores->data, packed_attention_bytes(attention));
    }
}

void carry_to_mix(ggml_tensor *, int ith, int, void * data) {
    const PackedAttention & attention = *static_cast<const PackedAttention *>(data);
    if (ith == 0) {
        std::memcpy(attention.mix->data, attention.softmax->data, packed_attention_bytes(attention));
    }
}

// ggml's ggml_custom_op_params, which is not public.
struct CustomParams {
    ggml_custom_op_t function;
    int tasks;
    void * data;
};
static_assert(sizeof(CustomParams) <= GGML_MAX_OP_PARAMS, "a node's parameters hold it");
static_assert(sizeof(CustomParams) <= PACKED_ATTENTION_PARAMS_AT, "packed attention has its own parameters behind it");

// Makes custom nodes of a graph's nodes and gives them back as they were.
class Replaced {
  public:
    Replaced(ggml_cgraph * graph, Context & context) : attentions_(find_packed_attention(graph)) {
        for (PackedAttention & attention : attentions_) {
            scratch_bytes_ = std::max(scratch_bytes_, packed_attention_scratch(attention));
            replace(attention.scores, {attend, GGML_N_TASKS_MAX, &context});
            replace(attention.softmax, {carry_to_softmax, 1, &attention});
            replace(attention.mix, {carry_to_mix, 1, &attention});
            bind_packed_attention(attention);
        }
        for (int i = 0; i < ggml_graph_n_nodes(graph); i++) {
            ggml_tensor * node = ggml_graph_node(graph, i);
            if (packed_product_takes(node)) {
                replace(node, {multiply, GGML_N_TASKS_MAX, &context});
            }
        }
    }
    ~Replaced() {
        for (const Saved & saved : saved_) {
            *saved.node = saved.was;
        }
    }
    Replaced(const Replaced &) = delete;

    size_t scratch_bytes() const { return std::max(scratch_bytes_, gemm_scratch_bytes()); }

  private:
    struct Saved {
        ggml_tensor * node;
        ggml_tensor was;
    };

    void replace(ggml_tensor * node, const CustomParams & params) {
        saved_.push_back({node, *node});
        std::memcpy(node->op_params, &params, sizeof params);
        node->op = GGML_OP_CUSTOM;
    }

    std::vector<PackedAttention> attentions_;
    std::vector<Saved> saved_;
    size_t scratch_bytes_ = 0;
};

// ---- backend

const char * backend_name(ggml_backend_t) { return "Packed"; }

void backend_free(ggml_backend_t backend) {
    delete static_cast<Context *>(backend->context);
    delete backend;
}

ggml_status backend_compute(ggml_backend_t backend, ggml_cgraph * graph) {
    Context & context = *static_cast<Context *>(backend->context);
    const Replaced replaced(graph, context);
    if (!context.reserve(replaced.scratch_bytes())) {
        return GGML_STATUS_ALLOC_FAILED;
    }
    return ggml_backend_graph_compute(context.cpu, graph);
}

void backend_set_threads(ggml_backend_t backend, int threads) {
    Context & context = *static_cast<Context *>(backend->context);
    context.threads = std::max(1, threads);
    ggml_backend_cpu_set_n_threads(context.cpu, context.threads);
}

void backend_set_abort(ggml_backend_t backend, ggml_abort_callback callback, void * data) {
    ggml_backend_cpu_set_abort_callback(static_cast<Context *>(backend->context)->cpu, callback, data);
}

ggml_guid_t backend_guid() {
    static ggml_guid guid = {0x5e, 0x1d, 0x0a, 0x93, 0x7c, 0x44, 0x4f, 0x2b,
                             0x9a, 0x61, 0xd8, 0x0e, 0x35, 0xb7, 0xc2, 0x18};
    return &guid;
}

// ---- device: that of the CPU under another name and type

ggml_backend_dev_t cpu_device() { return ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU); }

const char * device_name(ggml_backend_dev_t) { return "Packed"; }

const char * device_description(ggml_backend_dev_t) { return "packed matrix products on the CPU"; }

// As ggml's own accelerators that use the host's memory report it.
void device_memory(ggml_backend_dev_t, size_t * free, size_t * total) {
    *free = 0;
    *total = 0;
}

enum ggml_backend_dev_type device_type(ggml_backend_dev_t) { return GGML_BACKEND_DEVICE_TYPE_ACCEL; }

void device_props(ggml_backend_dev_t device, ggml_backend_dev_props * props) {
    props->name = device_name(device);
    props->description = device_description(device);
    props->type = device_type(device);
    device_memory(device, &props->memory_free, &props->memory_total);
    props->caps = {/* async */ false, /* host_buffer */ false, /* buffer_from_host_ptr */ true, /* events */ false};
}

ggml_backend_t device_backend(ggml_backend_dev_t device, const char *);

ggml_backend_buffer_type_t device_buffer_type(ggml_backend_dev_t) { return ggml_backend_cpu_buffer_type(); }

ggml_backend_buffer_t device_buffer_from(ggml_backend_dev_t, void * data, size_t size, size_t) {
    return ggml_backend_cpu_buffer_from_ptr(data, size);
}

bool device_supports_op(ggml_backend_dev_t, const ggml_tensor * op) {
    return ggml_backend_dev_supports_op(cpu_device(), op);
}

bool device_supports_buffer(ggml_backend_dev_t, ggml_backend_buffer_type_t type) {
    return ggml_backend_buft_is_host(type);
}

const ggml_backend_device_i device_interface = {
    device_name,
    device_description,
    device_memory,
    device_type,
    device_props,
    device_backend,
    device_buffer_type,
    nullptr,  // host buffer type
    device_buffer_from,
    device_supports_op,
    device_supports_buffer,
    nullptr,  // offload_op
    nullptr,
    nullptr,
    nullptr,  // events
};

// ---- registry

const char * registry_name(ggml_backend_reg_t) { return "Packed"; }

size_t registry_devices(ggml_backend_reg_t) { return 1; }

ggml_backend_dev_t registry_device(ggml_backend_reg_t registry, size_t) {
    static ggml_backend_device device = {device_interface, registry, nullptr};
    return &device;
}

void * registry_function(ggml_backend_reg_t, const char * name) {
    if (std::strcmp(name, "ggml_backend_set_n_threads") == 0) {
        return reinterpret_cast<void *>(backend_set_threads);
    }
    if (std::strcmp(name, "ggml_backend_set_abort_callback") == 0) {
        return reinterpret_cast<void *>(backend_set_abort);
    }
    return nullptr;
}

ggml_backend_reg_t registry() {
    static ggml_backend_reg registry = {
        GGML_BACKEND_API_VERSION, {registry_name, registry_devices, registry_device, registry_function}, nullptr};
    return &registry;
}

ggml_backend_t device_backend(ggml_backend_dev_t device, const char *) {
    auto context = std::make_unique<Context>();
    context->cpu = ggml_backend_cpu_init();
    if (!context->cpu) {
        return nullptr;
    }
    ggml_backend_i interface = {};
    interface.get_name = backend_name;
    interface.free = backend_free;
    interface.graph_compute = backend_compute;
    return new ggml_backend{backend_guid(), interface, device, context.release()};
}

}  // namespace

bool packed_product_takes(const ggml_tensor * node) {
    if (node->op != GGML_OP_MUL_MAT) {
        return false;
    }
    const ggml_tensor * w = node->src[0];
    const ggml_tensor * x = node->src[1];
    const auto rows_contiguous = [](const ggml_tensor * t) { return t->nb[0] == ggml_type_size(t->type); };
    return node->type == GGML_TYPE_F32 && !ggml_is_empty(node) && w->ne[0] > 0 && gemm_takes(w->type) &&
           (x->type == GGML_TYPE_F32 || x->type == GGML_TYPE_F16) && rows_contiguous(w) && rows_contiguous(x) &&
           rows_contiguous(node) && node->nb[1] % sizeof(float) == 0;
}

bool is_packed_backend(ggml_backend_t backend) {
    return backend && ggml_guid_matches(ggml_backend_guid(backend), backend_guid());
}

ggml_backend_t packed_backend_init() { return device_backend(registry_device(registry(), 0), nullptr); }

void register_packed_backend() {
    static std::once_flag once;
    std::call_once(once, [] { ggml_backend_register(registry()); });
}

}  // namespace vg
