// The operations of the Gemma graph that ggml has not, or not fast or exact enough, as custom nodes of a ggml graph
// (CPU). Matrices are [columns, rows] in ggml's order. Each forward stands beside its backward;
// native/tests/ops_test.cpp proves every pair by finite differences. Another backend gives these functions another
// body; the graph stays.
#pragma once

#include <deque>

#include "attention_plan.h"
#include "engine.h"

namespace vg {

// Parameters of custom nodes; must live until the graph has run.
class Ops {
  public:
    Ops(Engine & engine, ggml_context * ctx) : engine_(engine), ctx_(ctx) {}
    Ops(const Ops &) = delete;

    // x [C, T], w [C, R] of any type gemm() takes -> [R, T]
    ggml_tensor * linear(ggml_tensor * w, ggml_tensor * x, Engine::Work work = Engine::LINEAR);
    // dy [R, T], w [C, R] -> dx [C, T]
    ggml_tensor * linear_back(ggml_tensor * w, ggml_tensor * dy, Engine::Work work = Engine::LINEAR);
    // gradient [cols, rows] += Σ_t outer: rows from a [rows, T], columns from b [cols, T]. Returns a node to put into
    // the graph.
    ggml_tensor * accumulate_outer(ggml_tensor * gradient, ggml_tensor * a, ggml_tensor * b);

    // gelu_tanh(gate) · up, all [F, T]. Exact to f32 rounding, unlike ggml's table in f16.
    ggml_tensor * geglu(ggml_tensor * gate, ggml_tensor * up);
    // [2F, T]: rows of d gate, then d up
    ggml_tensor * geglu_back(ggml_tensor * dy, ggml_tensor * gate, ggml_tensor * up);

    // q [hd·n_head, T], k [hd·n_kv, keys] -> scores [plan.score_floats], unwritten where no block is. Also dp from do
    // and v.
    ggml_tensor * attention_scores(ggml_tensor * q, ggml_tensor * k, const AttentionPlan & plan, int head_dim);
    // softmax(scale · scores) over what each row sees (window tokens, 0: all), zero elsewhere
    ggml_tensor * attention_softmax(ggml_tensor * scores, const AttentionPlan & plan, float scale, int window);
    // d scores from p and dp: scale · p · (dp - Σ p dp)
    ggml_tensor * attention_softmax_back(ggml_tensor * p, ggml_tensor * dp, const AttentionPlan & plan, float scale,
                                         int window);
    // Σ_keys p · v -> [hd·n_head, T]. Also dq from d scores and k.
    ggml_tensor * attention_mix(ggml_tensor * p, ggml_tensor * v, const AttentionPlan & plan, int head_dim);
    // Σ_queries p · x -> [hd·n_kv, keys]: dv from p and do, dk from d scores and q
    ggml_tensor * attention_mix_back(ggml_tensor * p, ggml_tensor * x, const AttentionPlan & plan, int head_dim,
                                     int n_kv);

  private:
    struct Node {
        Engine * engine;
        const AttentionPlan * plan = nullptr;
        float scale = 1;
        int window = 0;
        int head_dim = 0;
        int n_kv = 0;
        bool transposed = false;
        ggml_tensor * gradient = nullptr;
        Engine::Work work = Engine::OTHER;
        ggml_custom_op_t run = nullptr;
    };
    static void run_timed(ggml_tensor * dst, int ith, int nth, void * node);
    ggml_tensor * node(const Node & params, ggml_custom_op_t f, int64_t ne0, int64_t ne1,
                       std::initializer_list<ggml_tensor *> args);

    Engine & engine_;
    ggml_context * ctx_;
    std::deque<Node> nodes_;
};

}  // namespace vg
