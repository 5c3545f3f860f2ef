// The CUDA kernels on the emulator against their CPU twins, which finite differences have proved, and against plain
// loops where the twin is no node of a graph.
#include <stdexcept>

#include "cuda_arrays.h"
#include "device_plan.h"
#include "packed_batch.h"

using namespace vg;
using namespace vg::test;

namespace {

// Two prompts of different lengths with completions of 3, 1, 2 and 2, 4, 0 tokens.
PackedBatch batch_of(int n_head) {
    static const int32_t prompts[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    static const int32_t prompt_lengths[] = {7, 4};
    static const int32_t tokens[24] = {1, 2, 3, 0, 4, 0, 0, 0, 5, 6, 0, 0, 7, 8, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0};
    static const int32_t lengths[] = {3, 1, 2, 2, 4, 0};
    return pack({prompts, prompt_lengths, 2, 3, tokens, lengths, 4}, {0, 1}, n_head);
}
// A prompt of more keys than a warp takes at a time, and in two blocks of the plan.
PackedBatch long_batch_of(int n_head) {
    static const std::vector<int32_t> prompt(size_t(AttentionPlan::kPromptPart) + 20, 1);
    static const int32_t prompt_lengths[] = {int32_t(prompt.size())};
    static const int32_t tokens[24] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    static const int32_t lengths[] = {12, 3};
    return pack({prompt.data(), prompt_lengths, 1, 2, tokens, lengths, 12}, {0}, n_head);
}

}  // namespace

TEST(norms_of_a_device) {
    for (const int64_t n : {20, 640}) {
        const int64_t T = 5;
        const std::vector<int32_t> at = {3, 0, 4};
        Evaluation e;
        e.inputs = {numbers(n * T, 1), numbers(n, 2), numbers(n * T, 3), numbers(n * 3, 4)};
        e.widths = {n, n, n, n};
        using In = std::vector<ggml_tensor *>;
        const Floats x(e.inputs[0]), w(e.inputs[1]), dy(e.inputs[2]), few(e.inputs[3]);
        const Ints places(at);
        const auto & k = kernels();
        Floats y{size_t(n * T)}, picked{size_t(n * 3)};

        k.norm(nullptr, rows(x, n), nullptr, w.data, kNone, y.data, n, T, n, 1e-6f);
        check_same(y.values(), e.run([](Ops & o, const In & in) { return o.norm(in[0], in[1], 1e-6f); }), 2e-6);
        k.norm(nullptr, rows(x, n), nullptr, w.data, rows(dy, n), y.data, n, T, n, 1e-6f);
        check_same(y.values(), e.run([](Ops & o, const In & in) { return o.add_norm(in[2], in[0], in[1], 1e-6f); }),
                   2e-6);
        k.norm(nullptr, rows(x, n), places.data, w.data, kNone, picked.data, n, 3, n, 1e-6f);
        check_same(picked.values(), e.run([&](Ops & o, const In & in) { return o.norm_at(in[0], at, in[1], 1e-6f); }),
                   2e-6);
        k.norm_back(nullptr, rows(dy, n), rows(x, n), nullptr, w.data, rows(x, n), y.data, n, T, n, 1e-6f);
        check_same(y.values(),
                   e.run([](Ops & o, const In & in) { return o.norm_back(in[2], in[0], in[1], 1e-6f, in[0]); }), 5e-6);
        std::fill_n(y.data, y.size, 0.0f);
        k.norm_back(nullptr, rows(few, n), rows(x, n), places.data, w.data, kNone, y.data, n, 3, n, 1e-6f);
        check_same(y.values(),
                   e.run([&](Ops & o, const In & in) { return o.norm_at_back(in[3], in[0], at, in[1], 1e-6f); }), 5e-6);
        k.gather(nullptr, rows(x, n), places.data, picked.data, n, 3, n);
        check_same(picked.values(), e.run([&](Ops & o, const In & in) { return o.gather(in[0], at); }), 0);
    }
}

TEST(embedding_of_a_device_in_f32_and_bf16) {
    const int64_t n = 50, V = 9;
    const std::vector<int32_t> tokens = {8, 0, 3, 3};
    const auto values = numbers(n * V, 1);
    const Floats w(values);
    const Ints t(tokens);
    Array<uint16_t> half{size_t(n * V)};
    Floats y{size_t(n * 4)};
    kernels().round_bf16(nullptr, rows(w, n), half.data, V, n);
    for (const bool bf16 : {false, true}) {
        kernels().embed(nullptr, {bf16 ? static_cast<const void *>(half.data) : w.data, n, bf16}, t.data, y.data, 4, n,
                        8.0f);
        for (size_t i = 0; i < y.size; ++i) {
            const float v = values[size_t(tokens[i / size_t(n)]) * size_t(n) + i % size_t(n)];
            CHECK(y.data[i] == 8.0f * (bf16 ? ggml_bf16_to_fp32(ggml_fp32_to_bf16(v)) : v));
        }
    }
}

TEST(geglu_of_a_device) {
    const int64_t F = 75, T = 5;
    Evaluation e;
    e.inputs = {numbers(2 * F * T, 1, 4), numbers(F * T, 2)};
    e.widths = {2 * F, F};
    const Floats gu(e.inputs[0]), dy(e.inputs[1]);
    Floats y{size_t(F * T)}, dgu{size_t(2 * F * T)};
    kernels().geglu(nullptr, rows(gu, 2 * F), y.data, F, T, F);
    check_same(y.values(), e.run([](Ops & o, const auto & in) { return o.geglu(in[0]); }), 2e-6);
    kernels().geglu_back(nullptr, rows(dy, F), rows(gu, 2 * F), dgu.data, 2 * F, T, F);
    check_same(dgu.values(), e.run([](Ops & o, const auto & in) { return o.geglu_back(in[1], in[0]); }), 4e-6);
}

TEST(heads_with_rope_of_a_device) {
    const int hd = 20, n_head = 4, n_kv = 2;
    const int64_t T = 6, q_width = hd * n_head, kv_width = hd * n_kv, width = q_width + 2 * kv_width;
    const std::vector<int32_t> positions = {0, 1, 2, 7, 30, 5};
    RopeTable rope(hd, 1e4f, 1);
    rope.reserve(31);
    Evaluation e;
    e.inputs = {numbers(width * T, 1),   numbers(hd, 2),           numbers(hd, 3),
                numbers(q_width * T, 4), numbers(kv_width * T, 5), numbers(kv_width * T, 6)};
    e.widths = {width, hd, hd, q_width, kv_width, kv_width};
    const Floats qkv(e.inputs[0]), wq(e.inputs[1]), wk(e.inputs[2]), dq(e.inputs[3]), dk(e.inputs[4]), dv(e.inputs[5]);
    const Floats cosines(Values(rope.cos(0), rope.cos(31))), sines(Values(rope.sin(0), rope.sin(31)));
    const Ints at(positions);
    const auto & k = kernels();
    Floats q{size_t(q_width * T)}, back{size_t(width * T)};
    k.turn(nullptr, rows(qkv, width), q.data, q_width, nullptr, wq.data, cosines.data, sines.data, at.data, T, n_head,
           hd, 1e-6f);
    check_same(q.values(),
               e.run([&](Ops & o, const auto & in) { return o.queries(in[0], n_head, in[1], 1e-6f, rope, positions); }),
               2e-6);
    k.turn_back(nullptr, rows(dq, q_width), rows(qkv, width), back.data, width, wq.data, cosines.data, sines.data,
                at.data, T, n_head, hd, 1e-6f);
    k.turn_back(nullptr, rows(dk, kv_width), {qkv.data + q_width, width}, back.data + q_width, width, wk.data,
                cosines.data, sines.data, at.data, T, n_kv, hd, 1e-6f);
    k.copy_rows(nullptr, rows(dv, kv_width), back.data + q_width + kv_width, width, nullptr, T, kv_width);
    check_same(back.values(), e.run([&](Ops & o, const auto & in) {
        return o.qkv_back(in[3], in[4], in[5], in[0], in[1], in[2], 1e-6f, rope, positions);
    }),
               5e-6);
}

TEST(attention_of_a_device_forward_and_backward) {
    const int hd = 20, n_head = 4;
    for (const int n_kv : {1, 2}) {
        for (const auto & [window, large] : {std::pair{0, false}, {4, false}, {0, true}, {7, true}}) {
            const auto batch = large ? long_batch_of(n_head) : batch_of(n_head);
            const auto & plan = batch.plan;
            const int64_t T = int64_t(batch.tokens.size()), q_width = hd * n_head, kv_width = hd * n_kv;
            const float scale = 0.4f;
            Evaluation e;
            e.inputs = {numbers(q_width * T, 1, 1.5f), numbers(kv_width * T, 2, 1.5f), numbers(kv_width * T, 3),
                        numbers(q_width * T, 4)};
            e.widths = {q_width, kv_width, kv_width, q_width};
            using In = std::vector<ggml_tensor *>;
            const auto p = [&](Ops & o, const In & in) {
                return o.attention_softmax(o.attention_scores(in[0], in[1], plan, hd, window), plan, scale, window);
            };
            const auto ds = [&](Ops & o, const In & in) {
                return o.attention_softmax_back(p(o, in), o.attention_scores(in[3], in[2], plan, hd, window), plan,
                                                scale, window);
            };
            const DevicePlan on_device = device_plan(plan);
            const Array<DeviceQuery> queries(on_device.queries);
            const Ints first(on_device.first_use);
            const Array<DeviceKeyUse> uses(on_device.uses);
            const AttentionShape shape = {T, plan.n_keys, n_head, n_kv, hd, window, scale};
            const Floats q(e.inputs[0]), k(e.inputs[1]), v(e.inputs[2]), d_o(e.inputs[3]);
            Floats o{size_t(q_width * T)}, dq{size_t(q_width * T)}, dk{size_t(kv_width * T)}, dv{size_t(kv_width * T)};
            Floats lse{size_t(n_head * T)}, delta{size_t(n_head * T)};
            kernels().attention(nullptr, shape, rows(q, q_width), rows(k, kv_width), rows(v, kv_width), queries.data,
                                o.data, q_width, nullptr);
            check_same(o.values(), e.run([&](Ops & ops, const In & in) {
                return ops.attention_mix(p(ops, in), in[2], plan, hd, window);
            }),
                       5e-6);
            kernels().attention_back_queries(nullptr, shape, rows(q, q_width), rows(k, kv_width), rows(v, kv_width),
                                             rows(d_o, q_width), queries.data, dq.data, q_width, lse.data, delta.data);
            kernels().attention_back_keys(nullptr, shape, rows(q, q_width), rows(k, kv_width), rows(v, kv_width),
                                          rows(d_o, q_width), queries.data, first.data, uses.data, lse.data, delta.data,
                                          dk.data, dv.data, kv_width);
            check_same(dq.values(), e.run([&](Ops & ops, const In & in) {
                return ops.attention_mix(ds(ops, in), in[1], plan, hd, window);
            }),
                       2e-5);
            check_same(dk.values(), e.run([&](Ops & ops, const In & in) {
                return ops.attention_mix_back(ds(ops, in), in[0], plan, hd, n_kv, window);
            }),
                       2e-5);
            check_same(dv.values(), e.run([&](Ops & ops, const In & in) {
                return ops.attention_mix_back(p(ops, in), in[3], plan, hd, n_kv, window);
            }),
                       2e-5);
        }
    }
}

TEST(emulator_catches_what_a_device_would_not_forgive) {
    const auto throws = [](const std::function<void()> & f) {
        try {
            emulator::launch(1, 64, 64 * sizeof(float), f);
            return false;
        } catch (const std::runtime_error &) {
            return true;
        }
    };
    CHECK(throws([] {
        if (threadIdx.x < 40)
            __syncthreads();
    }));
    CHECK(throws([] {
        if (threadIdx.x % 2 == 0)
            __syncwarp();
    }));
    // Without the barrier some thread reads before its neighbour has written, in some order of the threads.
    bool stale = false;
    for (const bool barrier : {true, false}) {
        for (uint32_t seed = 0; seed < 8; ++seed) {
            emulator::seed(seed);
            bool wrong = false;
            emulator::launch(1, 64, 64 * sizeof(float), [&] {
                VG_SHARED(float, room);
                room[threadIdx.x] = float(threadIdx.x);
                if (barrier)
                    __syncthreads();
                const unsigned other = (threadIdx.x + 1) % 64;
                wrong = wrong || !(room[other] == float(other));
            });
            CHECK(!(barrier && wrong));
            stale = stale || wrong;
        }
    }
    CHECK(stale);
}
