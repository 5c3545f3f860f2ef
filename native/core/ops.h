// The operations of the Gemma graph that ggml has not, or not fast or exact enough, as custom nodes of a ggml graph
// (CPU). Matrices are [columns, rows] in ggml's order. Each forward stands beside its backward;
// native/tests/ops_test.cpp and attention_test.cpp prove every pair by finite differences. Another backend gives these
// functions another body; the graph stays. Threads meet at every node, so a node does as much as it can.
//   ops.cpp            products with frozen weights and LoRA
//   ops_rows.cpp       embedding, norms, RoPE, GeGLU: a row for itself
//   ops_attention.cpp  attention over a plan
#pragma once

#include <deque>
#include <functional>

#include "attention_plan.h"
#include "engine.h"
#include "kv_cache.h"
#include "lora.h"
#include "rope.h"

namespace vg {

// The bodies of custom nodes; must live until the graph has run. So must what is passed to its functions by reference.
class Ops {
  public:
    Ops(Engine & engine, ggml_context * ctx) : engine_(engine), ctx_(ctx) {}
    Ops(const Ops &) = delete;

    // y = W x + B z with z = scale · A x, for a group of linear layers with their adapters (null: without).
    // dz = scale · Bᵀ dy, dx = Wᵀ dy + Aᵀ dz, dA += dz xᵀ, dB += dy zᵀ.
    // x [in, T] -> z [width, T]
    ggml_tensor * lora_in(const LoraGroup & lora, ggml_tensor * x, float scale);
    // w [in, out] of any type gemm() takes, x [in, T], z [width, T] -> y [out, T]
    ggml_tensor * linear(ggml_tensor * w, ggml_tensor * x, const LoraGroup * lora, ggml_tensor * z);
    // dy [out, T] -> dz [width, T]
    ggml_tensor * lora_out_back(const LoraGroup & lora, ggml_tensor * dy, float scale);
    // dy [out, T] -> dx [in, T]
    ggml_tensor * linear_back(ggml_tensor * w, ggml_tensor * dy, const LoraGroup * lora, ggml_tensor * dz);
    // Adds to the gradients of A and B; returns a node to put into the graph.
    ggml_tensor * accumulate_lora(const LoraGroup & lora, ggml_tensor * x, ggml_tensor * z, ggml_tensor * dy,
                                  ggml_tensor * dz);

    // Rows of the embedding, times scale. w [D, V] -> [D, T]
    ggml_tensor * embed(ggml_tensor * w, const std::vector<int32_t> & tokens, float scale);
    // The rows of x at `rows`. x [n, any] -> [n, rows]
    ggml_tensor * gather(ggml_tensor * x, const std::vector<int32_t> & rows);

    // x / √(mean x² + eps) · w of each row. x [n, T], w [n]
    ggml_tensor * norm(ggml_tensor * x, ggml_tensor * w, float eps);
    // x + norm(y)
    ggml_tensor * add_norm(ggml_tensor * x, ggml_tensor * y, ggml_tensor * w, float eps);
    // d x of norm(x) from dy, plus `add` [n, T] (null: 0)
    ggml_tensor * norm_back(ggml_tensor * dy, ggml_tensor * x, ggml_tensor * w, float eps, ggml_tensor * add);
    // norm() of the rows at `rows` alone. x [n, T] -> [n, rows]
    ggml_tensor * norm_at(ggml_tensor * x, const std::vector<int32_t> & rows, ggml_tensor * w, float eps);
    // d x [n, T], zero in the other rows; `rows` are all different
    ggml_tensor * norm_at_back(ggml_tensor * dy, ggml_tensor * x, const std::vector<int32_t> & rows, ggml_tensor * w,
                               float eps);

    // RoPE(norm()) of each head, the rows at positions[t]. In qkv [hd·(n_head + 2 n_kv), T] = [q0 | k0 | v] the
    // queries.
    ggml_tensor * queries(ggml_tensor * qkv, int n_head, ggml_tensor * w, float eps, const RopeTable & rope,
                          const std::vector<int32_t> & positions);
    // Puts RoPE(norm(k0)) and v into the tokens' cells; returns a node to put into the graph.
    ggml_tensor * store_keys(ggml_tensor * qkv, const KvLayer & to, const std::vector<int32_t> & cells, ggml_tensor * w,
                             float eps, const RopeTable & rope, const std::vector<int32_t> & positions);
    // d qkv from dq, dk and dv
    ggml_tensor * qkv_back(ggml_tensor * dq, ggml_tensor * dk, ggml_tensor * dv, ggml_tensor * qkv,
                           ggml_tensor * q_norm, ggml_tensor * k_norm, float eps, const RopeTable & rope,
                           const std::vector<int32_t> & positions);

    // gelu_tanh(gate) · up [F, T] of gu [2F, T], the rows of gate before those of up. Exact to f32 rounding, unlike
    // ggml's table in f16.
    ggml_tensor * geglu(ggml_tensor * gu);
    ggml_tensor * geglu_back(ggml_tensor * dy, ggml_tensor * gu);  // [2F, T]

    // All with a window of that many tokens, 0: none.
    // q [hd·n_head, T], k [hd·n_kv, keys] -> scores [plan.score_floats], unwritten where no block is. Also dp from do
    // and v.
    ggml_tensor * attention_scores(ggml_tensor * q, ggml_tensor * k, const AttentionPlan & plan, int head_dim,
                                   int window);
    // softmax(scale · scores) over what each row sees, zero elsewhere
    ggml_tensor * attention_softmax(ggml_tensor * scores, const AttentionPlan & plan, float scale, int window);
    // d scores from p and dp: scale · p · (dp - Σ p dp)
    ggml_tensor * attention_softmax_back(ggml_tensor * p, ggml_tensor * dp, const AttentionPlan & plan, float scale,
                                         int window);
    // Σ_keys p · v -> [hd·n_head, T]. Also dq from d scores and k.
    ggml_tensor * attention_mix(ggml_tensor * p, ggml_tensor * v, const AttentionPlan & plan, int head_dim, int window);
    // Σ_queries p · x -> [hd·n_kv, keys]: dv from p and do, dk from d scores and q
    ggml_tensor * attention_mix_back(ggml_tensor * p, ggml_tensor * x, const AttentionPlan & plan, int head_dim,
                                     int n_kv, int window);

  private:
    using Body = std::function<void(ggml_tensor * dst, int ith, int nth)>;
    struct Node {
        Engine & engine;
        Engine::Work work;
        Body body;
    };
    static void run(ggml_tensor * dst, int ith, int nth, void * node);
    ggml_tensor * node(Engine::Work work, int64_t ne0, int64_t ne1, std::initializer_list<ggml_tensor *> args,
                       Body body);

    Engine & engine_;
    ggml_context * ctx_;
    std::deque<Node> nodes_;
};

}  // namespace vg
