// Graphs on the packed backend against double precision, for every kernel this processor can run.
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "core/engine.h"
#include "core/gemm.h"
#include "core/gemm_isa.h"
#include "core/packed_backend.h"
#include "ggml-backend.h"
#include "test.h"

using namespace vg;

namespace {

struct BackendDeleter {
    void operator()(ggml_backend_t backend) const { ggml_backend_free(backend); }
};
using Backend = std::unique_ptr<ggml_backend, BackendDeleter>;

void set_threads(ggml_backend_t backend, int threads) {
    ggml_backend_reg_t registry = ggml_backend_dev_backend_reg(ggml_backend_get_device(backend));
    auto * set = reinterpret_cast<ggml_backend_set_n_threads_t>(
        ggml_backend_reg_get_proc_address(registry, "ggml_backend_set_n_threads"));
    CHECK(set != nullptr);
    set(backend, threads);
}

struct Shape {
    int64_t m, n, k;
    int64_t heads = 1, shared = 1;  // matrices of x; how many of them share a matrix of w
    bool interleaved = false;       // rows of the heads alternate in memory, as in attention
};

// w [k, n, heads / shared] and x [k, m, heads], filled with values that every type holds about exactly.
struct Product {
    Context context = make_context(32, 64);
    Buffer buffer;
    ggml_tensor *w, *x, *y;
    ggml_cgraph * graph;

    static ggml_tensor * matrices(ggml_context * ctx, ggml_type type, int64_t k, int64_t rows, int64_t count,
                                  bool interleaved, ggml_tensor ** stored) {
        *stored =
            interleaved ? ggml_new_tensor_3d(ctx, type, k, count, rows) : ggml_new_tensor_3d(ctx, type, k, rows, count);
        return interleaved ? ggml_permute(ctx, *stored, 0, 2, 1, 3) : *stored;
    }

    static void fill(ggml_tensor * t, uint32_t seed) {
        std::vector<float> values(size_t(ggml_nelements(t)));
        for (float & v : values) {
            seed = seed * 1664525u + 1013904223u;
            v = float(seed >> 8 & 0xffff) / 32768.0f - 1.0f;
        }
        std::vector<char> bytes(ggml_nbytes(t));
        if (t->type == GGML_TYPE_F32) {
            std::memcpy(bytes.data(), values.data(), bytes.size());
        } else {
            ggml_quantize_chunk(t->type, values.data(), bytes.data(), 0, ggml_nrows(t), t->ne[0], nullptr);
        }
        ggml_backend_tensor_set(t, bytes.data(), 0, bytes.size());
    }

    Product(ggml_backend_t backend, const Shape & s, ggml_type wt, ggml_type xt) {
        ggml_context * ctx = context.get();
        ggml_tensor *w_stored, *x_stored;
        w = matrices(ctx, wt, s.k, s.n, s.heads / s.shared, s.interleaved, &w_stored);
        x = matrices(ctx, xt, s.k, s.m, s.heads, s.interleaved, &x_stored);
        y = ggml_mul_mat(ctx, w, x);
        graph = ggml_new_graph_custom(ctx, 32, false);
        ggml_build_forward_expand(graph, y);
        buffer.reset(ggml_backend_alloc_ctx_tensors(ctx, backend));
        fill(w_stored, 1);
        fill(x_stored, 2);
    }

    static double at(const ggml_tensor * t, int64_t column, int64_t row, int64_t matrix) {
        const char * from = static_cast<const char *>(t->data) + row * int64_t(t->nb[1]) + matrix * int64_t(t->nb[2]);
        if (t->type == GGML_TYPE_F32) {
            return reinterpret_cast<const float *>(from)[column];
        }
        std::vector<float> values(size_t(t->ne[0]));
        ggml_get_type_traits(t->type)->to_float(from, values.data(), t->ne[0]);
        return values[size_t(column)];
    }

    // Values of y that are off by more than rounding.
    int wrong() const {
        const int64_t m = y->ne[1], n = y->ne[0], k = w->ne[0], shared = x->ne[2] / w->ne[2];
        std::vector<double> wv(size_t(n * k)), xv(size_t(m * k));
        int count = 0;
        for (int64_t h = 0; h < y->ne[2]; h++) {
            const auto read = [&](const ggml_tensor * t, int64_t matrix, std::vector<double> & to) {
                std::vector<float> row(static_cast<size_t>(k));
                for (int64_t r = 0; r < t->ne[1]; r++) {
                    const char * from =
                        static_cast<const char *>(t->data) + r * int64_t(t->nb[1]) + matrix * int64_t(t->nb[2]);
                    if (t->type == GGML_TYPE_F32) {
                        std::memcpy(row.data(), from, row.size() * 4);
                    } else {
                        ggml_get_type_traits(t->type)->to_float(from, row.data(), k);
                    }
                    for (int64_t c = 0; c < k; c++) {
                        to[size_t(r * k + c)] = row[size_t(c)];
                    }
                }
            };
            read(w, h / shared, wv);
            read(x, h, xv);
            for (int64_t i = 0; i < m; i++) {
                for (int64_t j = 0; j < n; j++) {
                    double sum = 0, size = 0;
                    for (int64_t c = 0; c < k; c++) {
                        const double term = wv[size_t(j * k + c)] * xv[size_t(i * k + c)];
                        sum += term;
                        size += std::fabs(term);
                    }
                    count += !(std::fabs(at(y, j, i, h) - sum) <= 1e-6 * size);
                }
            }
        }
        return count;
    }
};

const Shape SHAPES[] = {
    {1, 1, 1},
    {1, 17, 37},
    {2, 33, 64},
    {3, 100, 31},
    {4, 48, 512},
    {5, 131, 640},
    {6, 9, 96},
    {7, 64, 65},
    {8, 50, 1300},
    {9, 40, 64},
    {31, 45, 77},
    {200, 64, 320},
    {33, 64, 33, 6, 1, true},   // attention: heads side by side
    {5, 70, 64, 8, 1, true},    // the same in decoding
    {40, 16, 50, 6, 3, false},  // several heads share keys
    {2, 300, 64, 2},            // fewer matrices than threads
};

template <class F> void with_each_kernel(F body) {
    for (const GemmIsa * const * isa = gemm_isas(); *isa; isa++) {
        CHECK(gemm_force_kernel((*isa)->name));
        body(std::string((*isa)->name));
    }
    gemm_force_kernel(nullptr);
}

}  // namespace

TEST(packed_backend_products) {
    with_each_kernel([](const std::string & kernel) {
        const Backend backend(packed_backend_init());
        for (const Shape & shape : SHAPES) {
            for (ggml_type wt : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0}) {
                for (ggml_type xt : {GGML_TYPE_F32, GGML_TYPE_F16}) {
                    if (wt == GGML_TYPE_Q8_0 && shape.k % 32 != 0) {
                        continue;
                    }
                    Product product(backend.get(), shape, wt, xt);
                    CHECK(packed_product_takes(product.y));
                    const std::string what = kernel + " " + ggml_type_name(wt) + " x " + ggml_type_name(xt) + " M " +
                                             std::to_string(shape.m) + " N " + std::to_string(shape.n) + " K " +
                                             std::to_string(shape.k) + " heads " + std::to_string(shape.heads);
                    std::vector<char> first(ggml_nbytes(product.y));
                    for (int threads : {1, 2, 3}) {
                        std::memset(product.y->data, 0xff, first.size());  // NaN
                        set_threads(backend.get(), threads);
                        CHECK(ggml_backend_graph_compute(backend.get(), product.graph) == GGML_STATUS_SUCCESS);
                        CHECK(product.y->op == GGML_OP_MUL_MAT);
                        if (threads == 1) {
                            std::memcpy(first.data(), product.y->data, first.size());
                        } else if (std::memcmp(first.data(), product.y->data, first.size()) != 0) {
                            vg::test::fail(__FILE__, __LINE__,
                                           what + ": differs with " + std::to_string(threads) + " threads");
                        }
                    }
                    if (const int wrong = product.wrong()) {
                        vg::test::fail(__FILE__, __LINE__, what + ": " + std::to_string(wrong) + " values wrong");
                    }
                }
            }
        }
    });
}

// What the kernels do not take is computed by ggml in the same graph.
TEST(packed_backend_leaves_other_products_to_ggml) {
    const Backend backend(packed_backend_init()), cpu(ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr));
    const Shape shape = {7, 24, 256};
    Product packed(backend.get(), shape, GGML_TYPE_Q5_1, GGML_TYPE_F32);
    Product plain(cpu.get(), shape, GGML_TYPE_Q5_1, GGML_TYPE_F32);
    CHECK(!packed_product_takes(packed.y));
    CHECK(ggml_backend_graph_compute(backend.get(), packed.graph) == GGML_STATUS_SUCCESS);
    CHECK(ggml_backend_graph_compute(cpu.get(), plain.graph) == GGML_STATUS_SUCCESS);
    CHECK(std::memcmp(packed.y->data, plain.y->data, ggml_nbytes(plain.y)) == 0);
    float largest = 0;
    for (int64_t i = 0; i < ggml_nelements(packed.y); i++) {
        largest = std::fmax(largest, std::fabs(static_cast<const float *>(packed.y->data)[i]));
    }
    CHECK(largest > 0.1f);
}

TEST(packed_backend_takes_rows_alone) {
    Context context = make_context(16);
    ggml_context * ctx = context.get();
    ggml_tensor * w = ggml_new_tensor_2d(ctx, GGML_TYPE_F16, 32, 20);
    ggml_tensor * x = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, 10, 32);
    CHECK(packed_product_takes(ggml_mul_mat(ctx, w, ggml_cont(ctx, ggml_transpose(ctx, x)))));
    CHECK(!packed_product_takes(ggml_mul_mat(ctx, w, ggml_transpose(ctx, x))));
    CHECK(!packed_product_takes(ggml_add(ctx, x, x)));
    CHECK(!packed_product_takes(ggml_mul_mat(ctx, w, ggml_new_tensor_2d(ctx, GGML_TYPE_F32, 32, 0))));
}

// whisper.cpp finds it by its type, once, before the CPU.
TEST(packed_backend_is_registered_once) {
    register_packed_backend();
    register_packed_backend();
    int found = 0;
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
        ggml_backend_dev_t device = ggml_backend_dev_get(i);
        if (ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_ACCEL) {
            found++;
            CHECK(std::string(ggml_backend_dev_name(device)) == "Packed");
            const Backend backend(ggml_backend_dev_init(device, nullptr));
            CHECK(backend != nullptr);
            CHECK(ggml_backend_supports_buft(backend.get(), ggml_backend_get_default_buffer_type(backend.get())));
        }
    }
    CHECK(found == 1);
}

TEST(packed_backend_stops_on_request) {
    const Backend backend(packed_backend_init());
    Product product(backend.get(), {2, 8, 16}, GGML_TYPE_F32, GGML_TYPE_F32);
    auto * set = reinterpret_cast<ggml_backend_set_abort_callback_t>(ggml_backend_reg_get_proc_address(
        ggml_backend_dev_backend_reg(ggml_backend_get_device(backend.get())), "ggml_backend_set_abort_callback"));
    CHECK(set != nullptr);
    set(backend.get(), [](void *) { return true; }, nullptr);
    CHECK(ggml_backend_graph_compute(backend.get(), product.graph) == GGML_STATUS_ABORTED);
}
