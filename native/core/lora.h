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

// The adapters of a group of linear layers: every A stands row after row in one matrix.
struct LoraGroup {
    // y[row, row + rows) += B z[z, z + r)
    struct Part {
        LoraMatrix * b;
        int64_t row, rows;
        int64_t z;
    };
    ggml_tensor * a = nullptr;  // [in, width]
    ggml_tensor * a_gradient = nullptr;
    std::vector<Part> parts;
    int64_t width = 0;  // of z: r for each part
};

class Lora {
  public:
    Lora(const Gemma3Params & model, const Engine & engine, int rank, float alpha,
         const std::vector<std::string> & targets, uint64_t seed);

    int rank() const { return rank_; }
    float alpha() const { return alpha_; }
    float scale() const { return alpha_ / float(rank_); }

    // Null where no module of the group is adapted.
    const LoraGroup * group(int layer, Group group) const {
        const auto & g = groups_[size_t(layer * N_GROUPS + group)];
        return g.parts.empty() ? nullptr : &g;
    }
    std::vector<LoraMatrix> & matrices() { return matrices_; }
    // True when it was made for a model of these shapes.
    bool fits(const Gemma3Params & model) const;
    void zero_gradient();

    // Of rank, alpha, names and values: equal for adapters that compute the same.
    uint64_t fingerprint() const;

    int64_t updates = 0;  // AdamW steps so far

  private:
    void add_group(const Gemma3Params & model, int layer, Group group, const bool * wanted);

    int rank_;
    float alpha_;
    std::vector<LoraMatrix> matrices_;
    std::vector<LoraGroup> groups_;
    int64_t shape_[6];
    Context ctx_;
    Buffer buffer_;
};

}  // namespace vg
