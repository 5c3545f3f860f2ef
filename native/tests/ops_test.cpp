// Every operation that the backward pass composes, against finite differences of its forward.
#include <cmath>
#include <functional>
#include <vector>

#include "engine.h"
#include "grpo_loss.h"
#include "head.h"
#include "ops.h"
#include "packed_batch.h"
#include "philox.h"
#include "rope.h"
#include "sampler.h"
#include "test.h"

using namespace vg;

namespace {

using Values = std::vector<float>;

// Uniform in ±scale, the same on every machine.
Values numbers(int64_t n, uint32_t stream, float scale = 1) {
    Values out(static_cast<size_t>(n));
    for (size_t i = 0; i < out.size(); ++i)
        out[i] = scale * float(2 * philox_uniform(7, uint32_t(i), stream, 0, 0) - 1);
    return out;
}

// A graph built anew for every evaluation over named inputs; `build` returns the output tensor.
struct Evaluation {
    Engine engine{2};
    std::vector<Values> inputs;
    std::vector<int64_t> widths;  // ne[0] of each input

    using Build = std::function<ggml_tensor *(Ops &, const std::vector<ggml_tensor *> &)>;

    Values run(const Build & build) {
        Context ctx = make_context(256, 256);
        Ops ops(engine, ctx.get());
        std::vector<ggml_tensor *> tensors;
        for (size_t i = 0; i < inputs.size(); ++i) {
            tensors.push_back(
                ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, widths[i], int64_t(inputs[i].size()) / widths[i]));
            ggml_set_input(tensors.back());
        }
        ggml_tensor * out = build(ops, tensors);
        ggml_set_output(out);
        ggml_cgraph * graph = ggml_new_graph_custom(ctx.get(), 256, false);
        ggml_build_forward_expand(graph, out);
        engine.place(graph);
        for (size_t i = 0; i < inputs.size(); ++i) {
            if (tensors[i]->data)
                ggml_backend_tensor_set(tensors[i], inputs[i].data(), 0, ggml_nbytes(tensors[i]));
        }
        engine.run(graph, 1e9);
        Values result(size_t(ggml_nelements(out)));
        ggml_backend_tensor_get(out, result.data(), 0, ggml_nbytes(out));
        return result;
    }

    // Checks d(Σ dy·y)/d input along a random direction: `back` gives the gradient for input `which` from dy, the last
    // input.
    void check_gradient(size_t which, const Build & forward, const Build & back, uint32_t stream,
                        double tolerance = 2e-3) {
        const Values direction = numbers(int64_t(inputs[which].size()), stream + 1000);
        const Values dy = inputs.back();
        const auto along = [&](double h) {
            const Values saved = inputs[which];
            for (size_t i = 0; i < saved.size(); ++i)
                inputs[which][i] = float(double(saved[i]) + h * double(direction[i]));
            const Values y = run(forward);
            inputs[which] = saved;
            double sum = 0;
            for (size_t i = 0; i < y.size(); ++i)
                sum += double(dy[i]) * double(y[i]);
            return sum;
        };
        const double h = 5e-3;
        const double numeric = (8 * (along(h) - along(-h)) - (along(2 * h) - along(-2 * h))) / (12 * h);
        const Values gradient = run(back);
        double analytic = 0, size = 0;
        for (size_t i = 0; i < direction.size(); ++i) {
            analytic += double(gradient[i]) * double(direction[i]);
            size += std::fabs(double(gradient[i]) * double(direction[i]));
        }
        CHECK(size > 1e-3);  // a gradient of zeros would agree with anything flat
        CHECK_CLOSE(analytic / size, numeric / size, tolerance);
    }
};

// A prompt of more than one part, and a completion whose own tokens lie beyond a window.
PackedBatch long_batch(int n_head) {
    static const std::vector<int32_t> prompt(size_t(AttentionPlan::kPromptPart) + 20, 1);
    static const int32_t prompt_lengths[] = {int32_t(prompt.size())};
    static const int32_t tokens[24] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    static const int32_t lengths[] = {12, 3};
    PackedInput input{prompt.data(), prompt_lengths, 1, 2, tokens, lengths, 12};
    return pack(input, {0}, n_head);
}

// Two prompts of different lengths; completions of 3, 1 and 2 tokens, then 2, 4 and none.
PackedBatch small_batch(int n_head) {
    static const int32_t prompts[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    static const int32_t prompt_lengths[] = {7, 4};
    static const int32_t tokens[24] = {1, 2, 3, 0, 4, 0, 0, 0, 5, 6, 0, 0, 7, 8, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0};
    static const int32_t lengths[] = {3, 1, 2, 2, 4, 0};
    PackedInput input{prompts, prompt_lengths, 2, 3, tokens, lengths, 4};
    return pack(input, {0, 1}, n_head);
}

}  // namespace

TEST(packed_batch_layout) {
    const auto batch = small_batch(2);
    // Prompt 7 + (2 + 0 + 1) inputs, prompt 4 + (1 + 3) inputs.
    CHECK(batch.tokens.size() == 18);
    CHECK(batch.targets.size() == 12);
    CHECK(batch.positions[7] == 7 && batch.positions[8] == 8 && batch.positions[9] == 7);
    // All first targets of a prompt are predicted from its last token, which is one head row.
    CHECK(batch.head_rows[0] == 6 && batch.targets[0].row == 0 && batch.targets[3].row == 0);
    CHECK(batch.plan.rows[9].width == 7 + 2);
}

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

// The whole attention by q, k and v: one or two key/value heads, with and without a window that cuts prompt and
// completion.
TEST(attention_gradient) {
    const int hd = 20, n_head = 4;
    for (const int n_kv : {1, 2}) {
        for (const auto & [window, large] : {std::pair{0, false}, {4, false}, {0, true}, {7, true}}) {
            const auto batch = large ? long_batch(n_head) : small_batch(n_head);
            const auto & plan = batch.plan;
            const int64_t T = int64_t(batch.tokens.size());
            const float scale = 0.4f;
            Evaluation e;
            e.inputs = {numbers(hd * n_head * T, 1, 1.5f), numbers(hd * n_kv * T, 2, 1.5f), numbers(hd * n_kv * T, 3),
                        numbers(hd * n_head * T, 4)};
            e.widths = {hd * n_head, hd * n_kv, hd * n_kv, hd * n_head};
            const auto probabilities = [&](Ops & ops, const std::vector<ggml_tensor *> & in) {
                return ops.attention_softmax(ops.attention_scores(in[0], in[1], plan, hd, window), plan, scale, window);
            };
            const auto forward = [&](Ops & ops, const std::vector<ggml_tensor *> & in) {
                return ops.attention_mix(probabilities(ops, in), in[2], plan, hd, window);
            };
            // Against a plain loop: a token sees its prompt and its own completion, as far as the window goes.
            const auto o = e.run(forward);
            for (int64_t t = 0; t < T; ++t) {
                std::vector<int64_t> seen;
                for (const auto & block : plan.blocks) {
                    if (t < block.q || t >= block.q + block.n_q)
                        continue;
                    for (int64_t k = block.k; k < block.k + block.n_k; ++k) {
                        const int gap = batch.positions[size_t(t)] - batch.positions[size_t(k)];
                        if (gap >= 0 && (window == 0 || gap < window))
                            seen.push_back(k);
                    }
                }
                CHECK(!seen.empty());
                for (int h = 0; h < n_head; ++h) {
                    const int64_t kv = h * n_kv / n_head;
                    std::vector<double> weight;
                    double sum = 0;
                    for (const int64_t k : seen) {
                        double dot = 0;
                        for (int d = 0; d < hd; ++d)
                            dot += double(e.inputs[0][size_t((t * n_head + h) * hd + d)]) *
                                   double(e.inputs[1][size_t((k * n_kv + kv) * hd + d)]);
                        weight.push_back(std::exp(dot * double(scale)));
                        sum += weight.back();
                    }
                    for (int d = 0; d < hd; ++d) {
                        double want = 0;
                        for (size_t i = 0; i < seen.size(); ++i)
                            want += weight[i] / sum * double(e.inputs[2][size_t((seen[i] * n_kv + kv) * hd + d)]);
                        CHECK_CLOSE(double(o[size_t((t * n_head + h) * hd + d)]), want, 1e-5);
                    }
                }
            }
            const auto d_scores = [&](Ops & ops, const std::vector<ggml_tensor *> & in) {
                ggml_tensor * dp = ops.attention_scores(in[3], in[2], plan, hd, window);
                return ops.attention_softmax_back(probabilities(ops, in), dp, plan, scale, window);
            };
            e.check_gradient(
                0, forward,
                [&](Ops & ops, const std::vector<ggml_tensor *> & in) {
                    return ops.attention_mix(d_scores(ops, in), in[1], plan, hd, window);
                },
                5);
            e.check_gradient(
                1, forward,
                [&](Ops & ops, const std::vector<ggml_tensor *> & in) {
                    return ops.attention_mix_back(d_scores(ops, in), in[0], plan, hd, n_kv, window);
                },
                6);
            e.check_gradient(
                2, forward,
                [&](Ops & ops, const std::vector<ggml_tensor *> & in) {
                    return ops.attention_mix_back(probabilities(ops, in), in[3], plan, hd, n_kv, window);
                },
                7);
        }
    }
}

// d Σ slope·logp / d hidden, over more vocabulary rows than one chunk.
TEST(head_gradient) {
    const int64_t D = 12, V = 9001, R = 3;
    Engine engine(2);
    Context ctx = make_context(1);
    ggml_tensor * w = ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, D, V);
    const Buffer buffer = engine.allocate(ctx.get(), "the test");
    const auto values = numbers(D * V, 1);
    ggml_backend_tensor_set(w, values.data(), 0, ggml_nbytes(w));
    Head head(w, engine);
    const std::vector<HeadTarget> targets = {{0, 5, 0}, {0, 8999, 1}, {1, 8192, 2}, {2, 0, 3}};
    const std::vector<double> slopes = {0.7, -1.1, 0.4, 2.0};
    const double temperature = 0.7;
    auto hidden = numbers(D * R, 2);

    const auto objective = [&](const Values & h) {
        double total = 0;
        for (size_t i = 0; i < targets.size(); ++i) {
            std::vector<double> l(static_cast<size_t>(V));
            double max = -1e30, sum = 0;
            for (int64_t v = 0; v < V; ++v) {
                double dot = 0;
                for (int64_t d = 0; d < D; ++d)
                    dot += double(values[size_t(v * D + d)]) * double(h[size_t(targets[i].row * D + d)]);
                l[size_t(v)] = dot / temperature;
                max = std::max(max, l[size_t(v)]);
            }
            for (const double x : l)
                sum += std::exp(x - max);
            total += slopes[i] * (l[size_t(targets[i].token)] - max - std::log(sum));
        }
        return total;
    };
    const auto sweep = head.sweep(hidden.data(), R, targets, temperature, {true, nullptr});
    double ours = 0;
    for (size_t i = 0; i < targets.size(); ++i)
        ours += slopes[i] * (sweep.target_logits[i] - sweep.lse[size_t(targets[i].row)]);
    CHECK_CLOSE(ours, objective(hidden), 1e-5);
    const auto gradient = head.backward(sweep, R, targets, slopes, temperature);
    for (size_t i = 0; i < hidden.size(); ++i) {
        auto moved = hidden;
        const double h = 1e-3;
        moved[i] = float(double(hidden[i]) + h);
        const double up = objective(moved), hu = double(moved[i]) - double(hidden[i]);
        moved[i] = float(double(hidden[i]) - h);
        const double down = objective(moved), hd = double(hidden[i]) - double(moved[i]);
        CHECK_CLOSE(double(gradient[i]), (up - down) / (hu + hd), 1e-4);
    }
}

TEST(grpo_token_slope) {
    GrpoOptions options;
    options.epsilon = 0.2f, options.epsilon_high = 0.28f, options.beta = 0.04f;
    const float old_logp = -1.3f, ref_logp = -1.6f;
    for (const double advantage : {1.5, -0.8}) {
        for (const double logp : {-1.9, -1.45, -1.25, -1.02, -0.7}) {
            const auto token = grpo_token(logp, &old_logp, &ref_logp, advantage, options);
            const double h = 1e-6;
            const double numeric = (grpo_token(logp + h, &old_logp, &ref_logp, advantage, options).loss -
                                    grpo_token(logp - h, &old_logp, &ref_logp, advantage, options).loss) /
                                   (2 * h);
            CHECK_CLOSE(token.slope, numeric, 1e-6);
        }
    }
    CHECK(grpo_token(-0.7, &old_logp, &ref_logp, 1.5, options).clip_high);
    CHECK(grpo_token(-1.9, &old_logp, &ref_logp, -0.8, options).clip_low);
    CHECK(!grpo_token(-1.3, &old_logp, &ref_logp, -0.8, options).clip_low);
}

// Known answers of the Random123 distribution (kat_vectors, philox4x32 10 rounds).
TEST(philox_known_answers) {
    const auto zero = philox4x32({0, 0, 0, 0}, {0, 0});
    CHECK(zero[0] == 0x6627e8d5 && zero[1] == 0xe169c58d && zero[2] == 0xbc57ac4c && zero[3] == 0x9b00dbd8);
    const auto ones = philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff});
    CHECK(ones[0] == 0x408f276d && ones[1] == 0x41c83b0e && ones[2] == 0xa20bc7c6 && ones[3] == 0x6d5451fd);
}

TEST(sampler_follows_the_distribution) {
    const int64_t V = 37;
    const auto logits = numbers(V, 9, 3);
    SamplerOptions options;
    options.temperature = 0.8;
    // What the head's sweep would have found, in parts of 10.
    const auto parts_at = [&](double temperature) {
        std::vector<PartialSum> parts;
        for (int64_t begin = 0; begin < 50; begin += 10) {
            PartialSum part = {-INFINITY, 0};
            for (int64_t v = begin; v < std::min(V, begin + 10); ++v)
                part.max = std::max(part.max, float(double(logits[size_t(v)]) / temperature));
            for (int64_t v = begin; v < std::min(V, begin + 10); ++v)
                part.sum += std::exp(double(logits[size_t(v)]) / temperature - double(part.max));
            parts.push_back(part);
        }
        return parts;
    };
    const auto parts = parts_at(options.temperature), cold = parts_at(1);
    const SampledRow row = {logits.data(), V, parts.data(), 5, 10};
    std::vector<double> p(V);
    double sum = 0;
    for (int64_t v = 0; v < V; ++v)
        sum += p[size_t(v)] = std::exp(double(logits[size_t(v)]) / options.temperature);
    // Sweeping u evenly visits each token in proportion to its probability.
    const int n = 200000;
    std::vector<int> count(V);
    for (int i = 0; i < n; ++i) {
        const auto s = sample(row, options, (i + 0.5) / n);
        ++count[size_t(s)];
    }
    for (int64_t v = 0; v < V; ++v)
        CHECK_CLOSE(double(count[size_t(v)]) / n, p[size_t(v)] / sum, 2e-5);

    options.top_k = 3;
    for (int i = 0; i < 100; ++i) {
        const auto s = sample(row, options, i / 100.0);
        int above = 0;
        for (int64_t v = 0; v < V; ++v)
            above += logits[size_t(v)] > logits[size_t(s)];
        CHECK(above < 3);
    }
    options.top_k = 0, options.top_p = 0.5;
    for (int i = 0; i < 100; ++i) {
        const auto s = sample(row, options, i / 100.0);
        double above = 0;
        for (int64_t v = 0; v < V; ++v) {
            if (logits[size_t(v)] > logits[size_t(s)])
                above += p[size_t(v)] / sum;
        }
        CHECK(above < 0.5);
    }
    options.temperature = 0;
    CHECK(sample({logits.data(), V, cold.data(), 5, 10}, options, 0.99) ==
          std::max_element(logits.begin(), logits.end()) - logits.begin());
}
