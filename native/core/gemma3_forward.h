// The forward pass of Gemma 3: prefill, decoding, scoring and training use the same nodes, so rollouts and gradients
// come from the same arithmetic. native/README.md has the equations.
#pragma once

#include <vector>

#include "attention_plan.h"
#include "gemma3.h"
#include "kv_cache.h"
#include "lora.h"
#include "ops.h"
#include "rope.h"
#include "tape.h"

namespace vg {

struct ForwardPass {
    std::vector<int32_t> tokens;     // [T]
    std::vector<int32_t> positions;  // [T]
    std::vector<int32_t> cells;      // [T] where each token's key and value go
    std::vector<int32_t> head_rows;  // [R] tokens whose hidden state is wanted
    AttentionPlan plan;              // keys are cells
    const KvCache * cache = nullptr;
    Ropes * ropes = nullptr;      // gets rows for all positions
    const Lora * lora = nullptr;  // null: the model alone
    const Tape * tape = nullptr;  // null: nothing is kept. `cache` is the tape's, then.
    int64_t tape_row = 0;         // of the first token; the others follow
};

class Gemma3Forward {
  public:
    // pass must live as long.
    Gemma3Forward(const Gemma3 & model, Engine & engine, const ForwardPass & pass);
    void run();
    // [D, R], normalized: ready for the output matrix. Valid until the engine's next graph.
    const float * hidden() const { return static_cast<const float *>(hidden_->data); }

  private:
    ggml_tensor * keep(ggml_tensor * t, ggml_tensor * on_tape) const;
    ggml_tensor * adapted(int layer, Group group, ggml_tensor * x, ggml_tensor * on_tape);
    ggml_tensor * attention(int layer, ggml_tensor * qkv);
    ggml_tensor * layer(int layer, ggml_tensor * x);

    const Gemma3 & model_;
    const Gemma3Params & p_;
    Engine & engine_;
    const ForwardPass & pass_;
    Context ctx_;
    Ops ops_;
    ggml_cgraph * graph_;
    ggml_tensor * hidden_;
};

}  // namespace vg
