// The reverse pass of Gemma 3, written out, over activations on a tape. native/README.md has the equations.
#pragma once

#include <vector>

#include "attention_plan.h"
#include "gemma3.h"
#include "lora.h"
#include "rope.h"
#include "tape.h"

namespace vg {

struct BackwardPass {
    std::vector<int32_t> positions;  // [T]
    std::vector<int32_t> rows;       // [T] where on the tape each token is
    std::vector<int32_t> cells;      // [T] and its key
    std::vector<int32_t> head_rows;  // [R] tokens that the loss depends on directly
    AttentionPlan plan;              // queries are tokens, keys are cells
    const Tape * tape = nullptr;
    const Ropes * ropes = nullptr;
    const Lora * lora = nullptr;
};

// d_hidden [D, R], of what Gemma3Forward::hidden() gave: adds d loss / d LoRA to the adapter's gradients.
void gemma3_backward(const Gemma3 & model, Engine & engine, const BackwardPass & pass, std::vector<float> & d_hidden);

}  // namespace vg
