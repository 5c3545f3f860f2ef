// Attention as whisper.cpp's encoder builds it, in memory that the graph allocator shares out, against double
// precision.
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "core/engine.h"
#include "core/gemm.h"
#include "core/gemm_isa.h"
#include "core/packed_attention.h"
#include "core/packed_backend.h"
#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "test.h"

using namespace vg;

namespace {

struct Case {
    const char * name;
    int64_t d, keys, queries, heads;
    bool mask = false;     // the scores get one
    bool watched = false;  // something else reads the softmax
    bool late = false;     // V is there after the scores only
    bool fused = true;
};

const Case CASES[] = {
    {"encoder", 64, 200, 200, 3},
    {"odd sizes", 16, 77, 101, 2},
    {"one block less a row", 8, 33, 95, 1},
    {"a page of keys", 32, 1024, 40, 2},
    {"few queries", 16, 90, 5, 2, false, false, false, false},
    {"fewer keys than columns", 64, 40, 50, 2, false, false, false, false},
    {"masked", 16, 64, 48, 2, true, false, false, false},
    {"softmax read twice", 16, 64, 48, 2, false, true, false, false},
    {"late V", 16, 64, 48, 2, false, false, true, false},
};

struct GallocrDeleter {
    void operator()(ggml_gallocr_t allocator) const { ggml_gallocr_free(allocator); }
};

std::vector<float> values(int64_t n, uint32_t seed) {
    std::vector<float> v(static_cast<size_t>(n));
    for (float & x : v) {
        seed = seed * 1664525u + 1013904223u;
        x = float(seed >> 8 & 0xffff) / 32768.0f - 1.0f;
    }
    return v;
}

float half(float x) { return ggml_fp16_to_fp32(ggml_fp32_to_fp16(x)); }

constexpr float SCALE = 0.7f;

// What the graph gives: [d · heads, queries].
std::vector<float> run(ggml_backend_t backend, const Case & c, int threads, size_t * fused) {
    Context context = make_context(64, 64);
    ggml_context * ctx = context.get();
    const auto input = [&](int64_t rows) {
        ggml_tensor * t = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, c.d * c.heads, rows);
        ggml_set_input(t);
        return t;
    };
    ggml_tensor *q_in = input(c.queries), *k_in = input(c.keys), *v_in = input(c.keys);
    ggml_tensor * mask = nullptr;
    if (c.mask) {
        mask = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, c.keys, c.queries);
        ggml_set_input(mask);
    }
    ggml_tensor * q = ggml_permute(ctx, ggml_reshape_3d(ctx, q_in, c.d, c.heads, c.queries), 0, 2, 1, 3);
    ggml_tensor * k =
        ggml_permute(ctx, ggml_cast(ctx, ggml_reshape_3d(ctx, k_in, c.d, c.heads, c.keys), GGML_TYPE_F16), 0, 2, 1, 3);
    ggml_tensor * softmax = ggml_soft_max_ext(ctx, ggml_mul_mat(ctx, k, q), mask, SCALE, 0);
    ggml_tensor * v =
        ggml_cast(ctx, ggml_permute(ctx, ggml_reshape_3d(ctx, v_in, c.d, c.heads, c.keys), 1, 2, 0, 3), GGML_TYPE_F16);
    ggml_cgraph * graph = ggml_new_graph_custom(ctx, 64, false);
    if (c.late) {
        ggml_build_forward_expand(graph, softmax);
    }
    ggml_tensor * out =
        ggml_cont_2d(ctx, ggml_permute(ctx, ggml_mul_mat(ctx, v, softmax), 0, 2, 1, 3), c.d * c.heads, c.queries);
    ggml_set_output(out);
    ggml_build_forward_expand(graph, out);
    if (c.watched) {
        ggml_tensor * sum = ggml_sum(ctx, softmax);
        ggml_set_output(sum);
        ggml_build_forward_expand(graph, sum);
    }
    std::unique_ptr<ggml_gallocr, GallocrDeleter> allocator(
        ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend)));
    CHECK(ggml_gallocr_alloc_graph(allocator.get(), graph));
    const auto set = [](ggml_tensor * t, const std::vector<float> & x) {
        ggml_backend_tensor_set(t, x.data(), 0, x.size() * sizeof(float));
    };
    set(q_in, values(ggml_nelements(q_in), 1));
    set(k_in, values(ggml_nelements(k_in), 2));
    set(v_in, values(ggml_nelements(v_in), 3));
    if (mask) {
        set(mask, values(ggml_nelements(mask), 4));
    }
    *fused = find_packed_attention(graph).size();
    auto * set_threads = reinterpret_cast<ggml_backend_set_n_threads_t>(ggml_backend_reg_get_proc_address(
        ggml_backend_dev_backend_reg(ggml_backend_get_device(backend)), "ggml_backend_set_n_threads"));
    set_threads(backend, threads);
    CHECK(ggml_backend_graph_compute(backend, graph) == GGML_STATUS_SUCCESS);
    std::vector<float> result(size_t(ggml_nelements(out)));
    ggml_backend_tensor_get(out, result.data(), 0, result.size() * sizeof(float));
    return result;
}

std::vector<double> reference(const Case & c) {
    const int64_t width = c.d * c.heads;
    const std::vector<float> q = values(width * c.queries, 1), k = values(width * c.keys, 2),
                             v = values(width * c.keys, 3), mask = values(c.keys * c.queries, 4);
    std::vector<double> out(size_t(width * c.queries)), p(static_cast<size_t>(c.keys));
    for (int64_t h = 0; h < c.heads; h++) {
        for (int64_t i = 0; i < c.queries; i++) {
            double sum = 0;
            for (int64_t j = 0; j < c.keys; j++) {
                double score = 0;
                for (int64_t t = 0; t < c.d; t++) {
                    score += double(q[size_t(i * width + h * c.d + t)]) * half(k[size_t(j * width + h * c.d + t)]);
                }
                p[size_t(j)] = std::exp(SCALE * score + (c.mask ? mask[size_t(i * c.keys + j)] : 0));
                sum += p[size_t(j)];
            }
            for (int64_t t = 0; t < c.d; t++) {
                double value = 0;
                for (int64_t j = 0; j < c.keys; j++) {
                    value += p[size_t(j)] / sum * half(v[size_t(j * width + h * c.d + t)]);
                }
                out[size_t(i * width + h * c.d + t)] = value;
            }
        }
    }
    return out;
}

}  // namespace

TEST(packed_attention_as_in_the_encoder) {
    for (const GemmIsa * const * isa = gemm_isas(); *isa; isa++) {
        CHECK(gemm_force_kernel((*isa)->name));
        const std::unique_ptr<ggml_backend, void (*)(ggml_backend_t)> backend(packed_backend_init(), ggml_backend_free);
        for (const Case & c : CASES) {
            const std::vector<double> expected = reference(c);
            std::vector<float> first;
            for (int threads : {1, 2, 3}) {
                size_t fused = 0;
                const std::vector<float> got = run(backend.get(), c, threads, &fused);
                const std::string what = std::string((*isa)->name) + ", " + c.name;
                vg::test::checked();
                if (fused != size_t(c.fused)) {
                    vg::test::fail(__FILE__, __LINE__, what + ": fused " + std::to_string(fused));
                }
                if (threads > 1) {
                    CHECK(std::memcmp(got.data(), first.data(), got.size() * sizeof(float)) == 0);
                    continue;
                }
                first = got;
                double worst = 0;
                for (size_t i = 0; i < got.size(); i++) {
                    worst = std::fmax(worst, std::isnan(got[i]) ? 1 : std::fabs(got[i] - expected[i]));
                }
                if (!(worst <= 1e-5)) {
                    vg::test::fail(__FILE__, __LINE__, what + ": off by " + std::to_string(worst));
                }
            }
        }
    }
    gemm_force_kernel(nullptr);
}

// ggml's scheduler computes a graph in parts where somebody asks for a value in between. Here the softmax is read in
// another part than the attention.
TEST(packed_attention_is_not_fused_where_another_part_reads_it) {
    const std::unique_ptr<ggml_backend, void (*)(ggml_backend_t)> packed(packed_backend_init(), ggml_backend_free),
        cpu(ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr), ggml_backend_free);
    ggml_backend_t backends[] = {packed.get(), cpu.get()};
    const std::unique_ptr<ggml_backend_sched, void (*)(ggml_backend_sched_t)> sched(
        ggml_backend_sched_new(backends, nullptr, 2, 64, false, true), ggml_backend_sched_free);
    constexpr int64_t d = 16, keys = 64, queries = 48, heads = 2;
    Context context = make_context(64, 64);
    ggml_context * ctx = context.get();
    const auto input = [&](int64_t a, int64_t b) {
        ggml_tensor * t = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, a, b, heads);
        ggml_set_input(t);
        return t;
    };
    ggml_tensor *k = input(d, keys), *q = input(d, queries), *v = input(keys, d);
    ggml_tensor * softmax = ggml_soft_max_ext(ctx, ggml_mul_mat(ctx, k, q), nullptr, SCALE, 0);
    ggml_tensor * out = ggml_mul_mat(ctx, v, softmax);
    ggml_tensor * sum = ggml_sum(ctx, softmax);
    ggml_set_output(out);
    ggml_set_output(sum);
    ggml_cgraph * graph = ggml_new_graph_custom(ctx, 64, false);
    ggml_build_forward_expand(graph, out);
    ggml_build_forward_expand(graph, sum);
    ggml_backend_sched_set_eval_callback(
        sched.get(), [](ggml_tensor * node, bool ask, void * until) { return !ask || node == until; }, out);
    CHECK(ggml_backend_sched_alloc_graph(sched.get(), graph));
    for (ggml_tensor * t : {k, q, v}) {
        const std::vector<float> x = values(ggml_nelements(t), 5);
        ggml_backend_tensor_set(t, x.data(), 0, x.size() * sizeof(float));
    }
    CHECK(ggml_backend_sched_graph_compute(sched.get(), graph) == GGML_STATUS_SUCCESS);
    float total = 0;
    ggml_backend_tensor_get(sum, &total, 0, sizeof total);
    CHECK_CLOSE(total, double(queries * heads), 1e-4);  // each row adds up to 1
}
