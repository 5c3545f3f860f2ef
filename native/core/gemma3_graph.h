// The one builder of Gemma 3 graphs: prefill, decoding and training use the same nodes, so rollouts and gradients come
// from the same arithmetic. The backward pass is written out; native/README.md has the equations.
#pragma once

#include <string>
#include <vector>

#include "attention_plan.h"
#include "gemma3.h"
#include "lora.h"
#include "ops.h"

namespace vg {

// Keys and values of a layer, [hd·n_kv, cells] each.
struct KvLayer {
    ggml_tensor * k;
    ggml_tensor * v;
};

// What the backward pass reads again. [width, T] each.
struct LayerActivations {
    ggml_tensor *x, *q0, *k0, *q, *k, *v, *o, *ao, *x1, *gate, *up, *d;  // q0, k0: before norm and RoPE
    ggml_tensor * z[N_MODULES];                                          // scale · A input, null without LoRA
};

struct ForwardPass {
    std::vector<int32_t> tokens;     // [T]
    std::vector<int32_t> positions;  // [T]
    const AttentionPlan * plan = nullptr;
    std::vector<int32_t> head_rows;                // [R] rows of the stream that go to the head
    const std::vector<KvLayer> * cache = nullptr;  // null: keys are the stream's own tokens
    std::vector<int64_t> cells;                    // [T] with a cache: where each token's key goes
    Lora * lora = nullptr;
    bool keep = false;  // keep activations for backward
};

class Gemma3Graph {
  public:
    Gemma3Graph(const Gemma3 & model, Engine & engine, const ForwardPass & pass);

    // Runs the forward pass. Afterwards hidden() holds [D, R], ready for the output matrix.
    void forward();
    const float * hidden() const;

    // d_hidden [D, R]: adds d loss / d LoRA to the adapter's gradients. Needs `keep`.
    void backward(const std::vector<float> & d_hidden);

  private:
    double flops() const;
    ggml_tensor * adapted(int layer, Module module, ggml_tensor * x, ggml_tensor ** z);
    ggml_tensor * rope(ggml_tensor * x, int n_head, int layer);
    ggml_tensor * forward_layer(int layer, ggml_tensor * x);

    struct Backward;

    const Gemma3 & model_;
    const Gemma3Params & p_;
    Engine & engine_;
    const ForwardPass & pass_;
    Context ctx_;
    Ops ops_;
    ggml_cgraph * graph_ = nullptr;
    ggml_tensor * tokens_ = nullptr;
    ggml_tensor * positions_ = nullptr;
    ggml_tensor * rows_ = nullptr;
    ggml_tensor * cells_ = nullptr;
    ggml_tensor * head_input_ = nullptr;  // [D, R] before the output norm
    ggml_tensor * hidden_ = nullptr;
    std::vector<LayerActivations> layers_;
};

}  // namespace vg
