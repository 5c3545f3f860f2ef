// LoRA: y = W x + (alpha / r) B A x with frozen W. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models",
// 2021. Names, shapes and initialization as in PEFT.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "gemma3.h"

namespace vg {

struct LoraMatrix {
    std::string name;  // "model.layers.0.self_attn.q_proj.lora_A.weight"
    int64_t rows = 0;  // lora_A [r, in], lora_B [out, r]
    int64_t cols = 0;
    ggml_tensor * data = nullptr;
    ggml_tensor * gradient = nullptr;
    ggml_tensor * exp_avg = nullptr;  // AdamW's moments
    ggml_tensor * exp_avg_sq = nullptr;

    int64_t size() const { return rows * cols; }
};

struct LoraPair {
    LoraMatrix * a = nullptr;  // null where the module is not adapted
    LoraMatrix * b = nullptr;
};

class Lora {
  public:
    Lora(const Gemma3Params & model, const Engine & engine, int rank, float alpha,
         const std::vector<std::string> & targets, uint64_t seed);

    int rank() const { return rank_; }
    float alpha() const { return alpha_; }
    float scale() const { return alpha_ / float(rank_); }

    LoraPair pair(int layer, Module module) const { return pairs_[size_t(layer * N_MODULES + module)]; }
    std::vector<LoraMatrix> & matrices() { return matrices_; }
    // True when it was made for a model of these shapes.
    bool fits(const Gemma3Params & model) const;
    void zero_gradient();

    int64_t updates = 0;  // AdamW steps so far

  private:
    int rank_;
    float alpha_;
    std::vector<LoraMatrix> matrices_;
    std::vector<LoraPair> pairs_;
    int64_t shape_[6];
    Context ctx_;
    Buffer buffer_;
};

}  // namespace vg
