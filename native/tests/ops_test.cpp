// Linear layers with LoRA, norms, RoPE and GeGLU, against their definitions and finite differences.
#include "evaluation.h"
#include "rope.h"

using namespace vg;
using namespace vg::test;

namespace {

// y = W x + B z, z = 0.5 A x, for a group of three layers with 10, 8 and 15 rows, of which the second is not adapted.
struct AdaptedLinear {
    static constexpr int64_t in = 24, out = 33, rank = 3;
    static constexpr float scale = 0.5f;
    Context ctx = make_context(8);
    LoraMatrix b0, b1;
    LoraGroup group;
    ggml_tensor * w;
    Buffer buffer;

    explicit AdaptedLinear(const Engine & engine) {
        const auto matrix = [&](int64_t cols, int64_t rows) {
            return ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, cols, rows);
        };
        w = matrix(in, out);
        group.width = 2 * rank;
        group.a = matrix(in, group.width);
        group.a_gradient = matrix(in, group.width);
        for (LoraMatrix * b : {&b0, &b1}) {
            b->rows = b == &b0 ? 10 : 15, b->cols = rank;
            b->data = matrix(rank, b->rows);
            b->gradient = matrix(rank, b->rows);
        }
        group.parts = {{&b0, 0, 10, 0}, {&b1, 18, 15, rank}};
        buffer = engine.allocate(ctx.get(), "the test");
        uint32_t stream = 20;
        for (ggml_tensor * t : {w, group.a, b0.data, b1.data}) {
            const auto values = numbers(ggml_nelements(t), ++stream);
            ggml_backend_tensor_set(t, values.data(), 0, ggml_nbytes(t));
        }
        for (ggml_tensor * t : {group.a_gradient, b0.gradient, b1.gradient})
            fill(t, 0.25f);  // gradients are added to what is there
    }
    static void fill(ggml_tensor * t, float value) {
        std::fill_n(static_cast<float *>(t->data), ggml_nelements(t), value);
    }
    ggml_tensor * forward(Ops & ops, ggml_tensor * x) { return ops.linear(w, x, &group, ops.lora_in(group, x, scale)); }
};

}  // namespace

TEST(linear_with_lora_value_and_input_gradient) {
    for (const int64_t T : {1, 5, 40, 70}) {
        Evaluation e;
        AdaptedLinear layer(e.engine);
        e.inputs = {numbers(layer.in * T, 2), numbers(layer.out * T, 3)};
        e.widths = {layer.in, layer.out};
        const auto forward = [&](Ops & ops, const std::vector<ggml_tensor *> & in) {
            return layer.forward(ops, in[0]);
        };
        const auto y = e.run(forward);
        const auto at = [](const ggml_tensor * t, int64_t row, int64_t col) {
            return double(static_cast<const float *>(t->data)[row * t->ne[0] + col]);
        };
        for (int64_t t = 0; t < T; ++t) {
            const float * x = e.inputs[0].data() + t * layer.in;
            for (int64_t o = 0; o < layer.out; ++o) {
                double want = 0;
                for (int64_t i = 0; i < layer.in; ++i)
                    want += at(layer.w, o, i) * double(x[i]);
                for (const auto & part : layer.group.parts) {
                    if (o < part.row || o >= part.row + part.rows)
                        continue;
                    for (int64_t r = 0; r < layer.rank; ++r) {
                        for (int64_t i = 0; i < layer.in; ++i)
                            want += double(layer.scale) * at(part.b->data, o - part.row, r) *
                                    at(layer.group.a, part.z + r, i) * double(x[i]);
                    }
                }
                CHECK_CLOSE(double(y[size_t(t * layer.out + o)]), want, 2e-6);
            }
        }
        e.check_gradient(
            0, forward,
            [&](Ops & ops, const std::vector<ggml_tensor *> & in) {
                return ops.linear_back(layer.w, in[1], &layer.group,
                                       ops.lora_out_back(layer.group, in[1], layer.scale));
            },
            4);
    }
}

// The gradients of A and B by finite differences of the whole layer.
TEST(lora_gradient) {
    const int64_t T = 7;
    Evaluation e;
    AdaptedLinear layer(e.engine);
    e.inputs = {numbers(layer.in * T, 2), numbers(layer.out * T, 3)};
    e.widths = {layer.in, layer.out};
    e.run([&](Ops & ops, const std::vector<ggml_tensor *> & in) {
        return ops.accumulate_lora(layer.group, in[0], ops.lora_in(layer.group, in[0], layer.scale), in[1],
                                   ops.lora_out_back(layer.group, in[1], layer.scale));
    });
    const auto loss = [&] {
        const auto y =
            e.run([&](Ops & ops, const std::vector<ggml_tensor *> & in) { return layer.forward(ops, in[0]); });
        double sum = 0;
        for (size_t i = 0; i < y.size(); ++i)
            sum += double(y[i]) * double(e.inputs[1][i]);
        return sum;
    };
    const std::pair<ggml_tensor *, ggml_tensor *> pairs[] = {{layer.group.a, layer.group.a_gradient},
                                                             {layer.b0.data, layer.b0.gradient},
                                                             {layer.b1.data, layer.b1.gradient}};
    for (const auto & [value, gradient] : pairs) {
        for (int64_t i = 0; i < ggml_nelements(value); i += 5) {
            float * x = static_cast<float *>(value->data) + i;
            const float before = *x;
            const double h = 0.25;  // the layer is linear in each single value
            *x = float(double(before) + h);
            const double up = loss();
            *x = float(double(before) - h);
            const double down = loss();
            *x = before;
            CHECK_CLOSE(double(static_cast<float *>(gradient->data)[i]) - 0.25, (up - down) / (2 * h), 2e-4);
        }
    }
}

TEST(geglu_value_and_gradient) {
    const int64_t F = 37, T = 5;
    Evaluation e;
    e.inputs = {numbers(2 * F * T, 1, 3), numbers(F * T, 3)};
    e.widths = {2 * F, F};
    const auto forward = [](Ops & ops, const std::vector<ggml_tensor *> & in) { return ops.geglu(in[0]); };
    const auto y = e.run(forward);
    for (int64_t t = 0; t < T; ++t) {
        for (int64_t i = 0; i < F; ++i) {
            const double g = double(e.inputs[0][size_t(t * 2 * F + i)]),
                         u = double(e.inputs[0][size_t(t * 2 * F + F + i)]);
            const double gelu = 0.5 * g * (1 + std::tanh(std::sqrt(2 / M_PI) * (g + 0.044715 * g * g * g)));
            CHECK_CLOSE(double(y[size_t(t * F + i)]), gelu * u, 2e-6);
        }
    }
    e.check_gradient(
        0, forward, [](Ops & ops, const std::vector<ggml_tensor *> & in) { return ops.geglu_back(in[1], in[0]); }, 4);
}

TEST(norm_value_and_gradient) {
    const int64_t n = 24, T = 6;
    Evaluation e;
    e.inputs = {numbers(n * T, 1), numbers(n, 2), numbers(n * T, 5), numbers(n * T, 3)};
    e.widths = {n, n, n, n};
    const auto forward = [](Ops & ops, const std::vector<ggml_tensor *> & in) { return ops.norm(in[0], in[1], 1e-6f); };
    const auto y = e.run(forward);
    for (int64_t t = 0; t < T; ++t) {
        double square = 0;
        for (int64_t i = 0; i < n; ++i)
            square += double(e.inputs[0][size_t(t * n + i)]) * double(e.inputs[0][size_t(t * n + i)]);
        for (int64_t i = 0; i < n; ++i) {
            CHECK_CLOSE(double(y[size_t(t * n + i)]),
                        double(e.inputs[0][size_t(t * n + i)]) / std::sqrt(square / double(n) + 1e-6) *
                            double(e.inputs[1][size_t(i)]),
                        1e-6);
        }
    }
    e.check_gradient(
        0, forward,
        [](Ops & ops, const std::vector<ggml_tensor *> & in) {
            return ops.norm_back(in[3], in[0], in[1], 1e-6f, nullptr);
        },
        4);
    const auto alone = e.run([](Ops & ops, const std::vector<ggml_tensor *> & in) {
        return ops.norm_back(in[3], in[0], in[1], 1e-6f, nullptr);
    });
    const auto with = e.run([](Ops & ops, const std::vector<ggml_tensor *> & in) {
        return ops.norm_back(in[3], in[0], in[1], 1e-6f, in[2]);
    });
    const auto sum = e.run(
        [](Ops & ops, const std::vector<ggml_tensor *> & in) { return ops.add_norm(in[2], in[0], in[1], 1e-6f); });
    for (size_t i = 0; i < with.size(); ++i) {
        CHECK_CLOSE(double(with[i]), double(alone[i]) + double(e.inputs[2][i]), 1e-6);
        CHECK_CLOSE(double(sum[i]), double(y[i]) + double(e.inputs[2][i]), 1e-6);
    }
}

// Of some rows alone, in another order.
TEST(norm_at_gradient) {
    const int64_t n = 24;
    const std::vector<int32_t> rows = {4, 0, 5};
    Evaluation e;
    e.inputs = {numbers(n * 6, 1), numbers(n, 2), numbers(n * 3, 3)};
    e.widths = {n, n, n};
    const auto forward = [&](Ops & ops, const std::vector<ggml_tensor *> & in) {
        return ops.norm_at(in[0], rows, in[1], 1e-6f);
    };
    const auto y = e.run(forward);
    const auto all =
        e.run([](Ops & ops, const std::vector<ggml_tensor *> & in) { return ops.norm(in[0], in[1], 1e-6f); });
    for (size_t r = 0; r < rows.size(); ++r)
        CHECK(std::equal(y.begin() + int64_t(r) * n, y.begin() + int64_t(r + 1) * n, all.begin() + rows[r] * n));
    e.check_gradient(
        0, forward,
        [&](Ops & ops, const std::vector<ggml_tensor *> & in) {
            return ops.norm_at_back(in[2], in[0], rows, in[1], 1e-6f);
        },
        4);
}

TEST(gather_takes_rows) {
    const std::vector<int32_t> rows = {2, 2, 0};
    Evaluation e;
    e.inputs = {numbers(5 * 3, 1)};
    e.widths = {5};
    const auto y = e.run([&](Ops & ops, const std::vector<ggml_tensor *> & in) { return ops.gather(in[0], rows); });
    for (size_t r = 0; r < rows.size(); ++r) {
        const auto * from = e.inputs[0].data() + rows[r] * 5;
        CHECK(std::equal(from, from + 5, y.begin() + int64_t(r) * 5));
    }
}

// Norm and RoPE of two query heads and one key head, with the values passed through: against the definition, and the
// gradient of all three by finite differences.
TEST(rope_value_and_gradient) {
    const int64_t hd = 16, T = 5;
    const std::vector<int32_t> positions = {0, 1, 5, 100, 7}, cells = {3, 0, 4, 1, 2};
    const double base = 1e4, scale = 0.5;
    RopeTable rope{int(hd), float(base), float(scale)};
    rope.reserve(50);
    rope.reserve(101);
    Evaluation e;
    e.inputs = {numbers(4 * hd * T, 1), numbers(hd, 2), numbers(hd, 3), numbers(4 * hd * T, 4)};
    e.widths = {4 * hd, hd, hd, 4 * hd};

    Context ctx = make_context(2);
    const KvLayer kv = {ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, hd, T),
                        ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, hd, T)};
    const Buffer buffer = e.engine.allocate(ctx.get(), "the test");
    // [q | k | v] as one row for each token
    const auto forward = [&] {
        const auto q = e.run([&](Ops & ops, const std::vector<ggml_tensor *> & in) {
            return ops.queries(in[0], 2, in[1], 1e-6f, rope, positions);
        });
        e.run([&](Ops & ops, const std::vector<ggml_tensor *> & in) {
            return ops.store_keys(in[0], kv, cells, in[2], 1e-6f, rope, positions);
        });
        Values all;
        for (int64_t t = 0; t < T; ++t) {
            all.insert(all.end(), q.begin() + t * 2 * hd, q.begin() + (t + 1) * 2 * hd);
            for (const ggml_tensor * store : {kv.k, kv.v}) {
                const auto * row = static_cast<const float *>(store->data) + cells[size_t(t)] * hd;
                all.insert(all.end(), row, row + hd);
            }
        }
        return all;
    };
    const auto y = forward();
    for (int64_t t = 0; t < T; ++t) {
        for (int64_t head = 0; head < 4; ++head) {
            const auto * x = e.inputs[0].data() + (t * 4 + head) * hd;
            const auto * w = e.inputs[head < 2 ? 1 : 2].data();
            const auto * got = y.data() + (t * 4 + head) * hd;
            double square = 0;
            for (int64_t i = 0; i < hd; ++i)
                square += double(x[i]) * double(x[i]);
            const double r = 1 / std::sqrt(square / double(hd) + 1e-6);
            for (int64_t i = 0; i < hd / 2; ++i) {
                const double angle = positions[size_t(t)] * scale * std::pow(base, -2.0 * double(i) / double(hd));
                const double a = double(x[i]) * r * double(w[i]), b = double(x[i + hd / 2]) * r * double(w[i + hd / 2]);
                CHECK_CLOSE(double(got[i]), head == 3 ? double(x[i]) : a * std::cos(angle) - b * std::sin(angle), 1e-5);
                CHECK_CLOSE(double(got[i + hd / 2]),
                            head == 3 ? double(x[i + hd / 2]) : b * std::cos(angle) + a * std::sin(angle), 1e-5);
            }
        }
    }
    // d qkv of Σ dy·y, element by element
    e.inputs.push_back({});
    e.inputs.push_back({});
    e.inputs.push_back({});
    e.widths.insert(e.widths.end(), {2 * hd, hd, hd});
    for (int64_t t = 0; t < T; ++t) {
        const auto * dy = e.inputs[3].data() + t * 4 * hd;
        e.inputs[4].insert(e.inputs[4].end(), dy, dy + 2 * hd);
        e.inputs[5].insert(e.inputs[5].end(), dy + 2 * hd, dy + 3 * hd);
        e.inputs[6].insert(e.inputs[6].end(), dy + 3 * hd, dy + 4 * hd);
    }
    const auto gradient = e.run([&](Ops & ops, const std::vector<ggml_tensor *> & in) {
        return ops.qkv_back(in[4], in[5], in[6], in[0], in[1], in[2], 1e-6f, rope, positions);
    });
    for (size_t i = 0; i < gradient.size(); i += 7) {
        const float before = e.inputs[0][i];
        const auto loss = [&](double moved) {
            e.inputs[0][i] = float(moved);
            const auto now = forward();
            double sum = 0;
            for (size_t j = 0; j < now.size(); ++j)
                sum += double(now[j]) * double(e.inputs[3][j]);
            return sum;
        };
        const double h = 1e-2;
        const double numeric = (loss(double(before) + h) - loss(double(before) - h)) / (2 * h);
        e.inputs[0][i] = before;
        CHECK_CLOSE(double(gradient[i]), numeric, 2e-3);
    }
}
