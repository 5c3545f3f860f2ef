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
    std::vector<int64_t> widths;    // ne[0] of each input
    std::vector<int32_t> integers;  // an I32 input where one is needed

    using Build =
        std::function<ggml_tensor *(ggml_context *, Ops &, const std::vector<ggml_tensor *> &, ggml_tensor *)>;

    Values run(const Build & build) {
        Context ctx = make_context(256, 256);
        Ops ops(engine, ctx.get());
        std::vector<ggml_tensor *> tensors;
        for (size_t i = 0; i < inputs.size(); ++i) {
            tensors.push_back(
                ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, widths[i], int64_t(inputs[i].size()) / widths[i]));
            ggml_set_input(tensors.back());
        }
        ggml_tensor * ids =
            ggml_new_tensor_1d(ctx.get(), GGML_TYPE_I32, std::max<int64_t>(1, int64_t(integers.size())));
        ggml_set_input(ids);
        ggml_tensor * out = build(ctx.get(), ops, tensors, ids);
        ggml_set_output(out);
        ggml_cgraph * graph = ggml_new_graph_custom(ctx.get(), 256, false);
        ggml_build_forward_expand(graph, out);
        engine.place(graph, Engine::FORWARD);
        for (size_t i = 0; i < inputs.size(); ++i) {
            if (tensors[i]->data)
                ggml_backend_tensor_set(tensors[i], inputs[i].data(), 0, ggml_nbytes(tensors[i]));
        }
        if (ids->data && !integers.empty())
            ggml_backend_tensor_set(ids, integers.data(), 0, ggml_nbytes(ids));
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

// Two prompts of different lengths; completions of 3, 1 and 2 tokens, then 2, 4 and none.
PackedBatch small_batch(int n_head) {
    static const int32_t prompts[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    static const int32_t prompt_lengths[] = {7, 4};
    static const int32_t tokens[24] = {1, 2, 3, 0, 4, 0, 0, 0, 5, 6, 0, 0, 7, 8, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0};
    static const int32_t lengths[] = {3, 1, 2, 2, 4, 0};
    PackedInput input{prompts, prompt_lengths, 2, 3, tokens, lengths, 4};
    return pack(input, 0, 2, n_head);
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

TEST(linear_gradient) {
    for (const int64_t T : {1, 5, 40}) {
        Evaluation e;
        e.inputs = {numbers(24 * 33, 1), numbers(24 * T, 2), numbers(33 * T, 3)};
        e.widths = {24, 24, 33};
        e.check_gradient(
            1,
            [](ggml_context *, Ops & ops, const std::vector<ggml_tensor *> & in, ggml_tensor *) {
                return ops.linear(in[0], in[1]);
            },
            [](ggml_context *, Ops & ops, const std::vector<ggml_tensor *> & in, ggml_tensor *) {
                return ops.linear_back(in[0], in[2]);
            },
            4);
    }
}

// dW = Σ_t dy_t x_tᵀ of a linear layer, added to what is there.
TEST(accumulate_outer_adds_in_both_orientations) {
    for (const bool wide_rows : {true, false}) {
        const int64_t rows = wide_rows ? 50 : 3, cols = wide_rows ? 3 : 50, T = 7;
        Engine engine(2);
        Context ctx = make_context(8, 8);
        Ops ops(engine, ctx.get());
        ggml_tensor * g = ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, cols, rows);
        ggml_tensor * a = ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, rows, T);
        ggml_tensor * b = ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, cols, T);
        const Buffer buffer = engine.allocate(ctx.get(), "the test");
        const auto start = numbers(rows * cols, 1), av = numbers(rows * T, 2), bv = numbers(cols * T, 3);
        ggml_backend_tensor_set(g, start.data(), 0, ggml_nbytes(g));
        ggml_backend_tensor_set(a, av.data(), 0, ggml_nbytes(a));
        ggml_backend_tensor_set(b, bv.data(), 0, ggml_nbytes(b));
        ggml_cgraph * graph = ggml_new_graph_custom(ctx.get(), 8, false);
        ggml_build_forward_expand(graph, ops.accumulate_outer(g, a, b));
        engine.place(graph, Engine::FORWARD);
        engine.run(graph, 1e9);
        const auto * out = static_cast<const float *>(g->data);
        for (int64_t r = 0; r < rows; ++r) {
            for (int64_t c = 0; c < cols; ++c) {
                double want = double(start[size_t(r * cols + c)]);
                for (int64_t t = 0; t < T; ++t)
                    want += double(av[size_t(t * rows + r)]) * double(bv[size_t(t * cols + c)]);
                CHECK_CLOSE(double(out[r * cols + c]), want, 1e-5);
            }
        }
    }
}

TEST(geglu_value_and_gradient) {
    Evaluation e;
    e.inputs = {numbers(37 * 5, 1, 4), numbers(37 * 5, 2, 2), numbers(37 * 5, 3)};
    e.widths = {37, 37, 37};
    const auto forward = [](ggml_context *, Ops & ops, const std::vector<ggml_tensor *> & in, ggml_tensor *) {
        return ops.geglu(in[0], in[1]);
    };
    const auto y = e.run(forward);
    for (size_t i = 0; i < y.size(); ++i) {
        const double g = double(e.inputs[0][i]);
        const double gelu = 0.5 * g * (1 + std::tanh(std::sqrt(2 / M_PI) * (g + 0.044715 * g * g * g)));
        CHECK_CLOSE(double(y[i]), gelu * double(e.inputs[1][i]), 2e-6);
    }
    for (const int part : {0, 1}) {
        e.check_gradient(
            size_t(part), forward,
            [part](ggml_context * ctx, Ops & ops, const std::vector<ggml_tensor *> & in, ggml_tensor *) {
                ggml_tensor * both = ops.geglu_back(in[2], in[0], in[1]);
                return ggml_cont(ctx, ggml_view_2d(ctx, both, 37, 5, both->nb[1], size_t(part) * 37 * sizeof(float)));
            },
            4);
    }
}

TEST(rms_norm_gradient) {
    Evaluation e;
    e.inputs = {numbers(24 * 6, 1), numbers(24, 2), numbers(24 * 6, 3)};
    e.widths = {24, 24, 24};
    e.check_gradient(
        0,
        [](ggml_context * ctx, Ops &, const std::vector<ggml_tensor *> & in, ggml_tensor *) {
            return ggml_mul(ctx, ggml_rms_norm(ctx, in[0], 1e-6f), in[1]);
        },
        [](ggml_context * ctx, Ops &, const std::vector<ggml_tensor *> & in, ggml_tensor *) {
            return ggml_rms_norm_back(ctx, ggml_mul(ctx, in[2], in[1]), in[0], 1e-6f);
        },
        4);
}

TEST(rope_gradient) {
    Evaluation e;
    e.inputs = {numbers(16 * 2 * 5, 1), numbers(16 * 2 * 5, 2)};
    e.widths = {32, 32};
    e.integers = {0, 1, 5, 100, 7};
    const auto turn = [](bool back) {
        return [back](ggml_context * ctx, Ops &, const std::vector<ggml_tensor *> & in, ggml_tensor * positions) {
            ggml_tensor * x = ggml_reshape_3d(ctx, in[back ? 1 : 0], 16, 2, 5);
            return back ? ggml_rope_ext_back(ctx, x, positions, nullptr, 16, GGML_ROPE_TYPE_NEOX, 512, 1e4f, 0.5f, 0, 1,
                                             0, 0)
                        : ggml_rope_ext(ctx, x, positions, nullptr, 16, GGML_ROPE_TYPE_NEOX, 512, 1e4f, 0.5f, 0, 1, 0,
                                        0);
        };
    };
    e.check_gradient(0, turn(false), turn(true), 3);
}

TEST(get_rows_gradient) {
    Evaluation e;
    e.inputs = {numbers(8 * 6, 1), numbers(8 * 3, 2)};
    e.widths = {8, 8};
    e.integers = {4, 0, 5};
    e.check_gradient(
        0,
        [](ggml_context * ctx, Ops &, const std::vector<ggml_tensor *> & in, ggml_tensor * ids) {
            return ggml_get_rows(ctx, in[0], ids);
        },
        [](ggml_context * ctx, Ops &, const std::vector<ggml_tensor *> & in, ggml_tensor * ids) {
            return ggml_get_rows_back(ctx, in[1], ids, in[0]);
        },
        3);
}

// The whole attention by q, k and v: one or two key/value heads, with and without a window that cuts prompt and
// completion.
TEST(attention_gradient) {
    const int hd = 20, n_head = 4;
    for (const int n_kv : {1, 2}) {
        for (const int window : {0, 4}) {
            const auto batch = small_batch(n_head);
            const auto & plan = batch.plan;
            const int64_t T = int64_t(batch.tokens.size());
            const float scale = 0.4f;
            Evaluation e;
            e.inputs = {numbers(hd * n_head * T, 1, 1.5f), numbers(hd * n_kv * T, 2, 1.5f), numbers(hd * n_kv * T, 3),
                        numbers(hd * n_head * T, 4)};
            e.widths = {hd * n_head, hd * n_kv, hd * n_kv, hd * n_head};
            const auto probabilities = [&](Ops & ops, const std::vector<ggml_tensor *> & in) {
                return ops.attention_softmax(ops.attention_scores(in[0], in[1], plan, hd), plan, scale, window);
            };
            const auto forward = [&](ggml_context *, Ops & ops, const std::vector<ggml_tensor *> & in, ggml_tensor *) {
                return ops.attention_mix(probabilities(ops, in), in[2], plan, hd);
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
                ggml_tensor * dp = ops.attention_scores(in[3], in[2], plan, hd);
                return ops.attention_softmax_back(probabilities(ops, in), dp, plan, scale, window);
            };
            e.check_gradient(
                0, forward,
                [&](ggml_context *, Ops & ops, const std::vector<ggml_tensor *> & in, ggml_tensor *) {
                    return ops.attention_mix(d_scores(ops, in), in[1], plan, hd);
                },
                5);
            e.check_gradient(
                1, forward,
                [&](ggml_context *, Ops & ops, const std::vector<ggml_tensor *> & in, ggml_tensor *) {
                    return ops.attention_mix_back(d_scores(ops, in), in[0], plan, hd, n_kv);
                },
                6);
            e.check_gradient(
                2, forward,
                [&](ggml_context *, Ops & ops, const std::vector<ggml_tensor *> & in, ggml_tensor *) {
                    return ops.attention_mix_back(probabilities(ops, in), in[3], plan, hd, n_kv);
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
    const auto sweep = head.sweep(hidden.data(), R, targets, temperature, true);
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
    const auto stats = row_stats(logits.data(), V, options.temperature);
    std::vector<double> p(V);
    double sum = 0;
    for (int64_t v = 0; v < V; ++v)
        sum += p[size_t(v)] = std::exp(double(logits[size_t(v)]) / options.temperature);
    // Sweeping u evenly visits each token in proportion to its probability.
    const int n = 200000;
    std::vector<int> count(V);
    for (int i = 0; i < n; ++i) {
        const auto s = sample(logits.data(), V, stats, options, (i + 0.5) / n);
        ++count[size_t(s.token)];
        if (i % 5000 == 0)
            CHECK_CLOSE(s.log_prob, std::log(p[size_t(s.token)] / sum), 1e-5);
    }
    for (int64_t v = 0; v < V; ++v)
        CHECK_CLOSE(double(count[size_t(v)]) / n, p[size_t(v)] / sum, 2e-5);

    options.top_k = 3;
    for (int i = 0; i < 100; ++i) {
        const auto s = sample(logits.data(), V, stats, options, i / 100.0);
        int above = 0;
        for (int64_t v = 0; v < V; ++v)
            above += logits[size_t(v)] > logits[size_t(s.token)];
        CHECK(above < 3);
    }
    options.top_k = 0, options.top_p = 0.5;
    for (int i = 0; i < 100; ++i) {
        const auto s = sample(logits.data(), V, stats, options, i / 100.0);
        double above = 0;
        for (int64_t v = 0; v < V; ++v) {
            if (logits[size_t(v)] > logits[size_t(s.token)])
                above += p[size_t(v)] / sum;
        }
        CHECK(above < 0.5);
    }
    options.temperature = 0;
    CHECK(sample(logits.data(), V, row_stats(logits.data(), V, 0), options, 0.99).token ==
          std::max_element(logits.begin(), logits.end()) - logits.begin());
}
