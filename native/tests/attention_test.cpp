// The stream of a packed pass, and attention over it.
#include "evaluation.h"
#include "packed_batch.h"

using namespace vg;
using namespace vg::test;

namespace {

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
