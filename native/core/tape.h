// What the backward pass reads again: the activations of every token of one or several forward passes. A rollout with
// the policy that is to be trained writes the same rows as a training pass, in the order in which it came to the
// tokens.
#pragma once

#include <vector>

#include "kv_cache.h"
#include "lora.h"

namespace vg {

// [width, rows] each; a column of the field's matrix is a token. Names as in native/README.md. Norms, GeGLU and
// attention probabilities are cheaper to compute again than to keep.
struct TapeLayer {
    ggml_tensor * x;
    ggml_tensor * qkv;  // before norm and RoPE
    ggml_tensor * o;
    ggml_tensor * ao;
    ggml_tensor * x1;
    ggml_tensor * gu;
    ggml_tensor * d;
    ggml_tensor * z[N_GROUPS];  // null where the adapter has nothing
};

class Tape {
  public:
    // Room for `rows` tokens with keys in `cells` cells. What was on it is lost when it grows, or when the adapter has
    // other shapes than the last one. Throws E_LIMIT.
    void reserve(const Engine & engine, const Gemma3Params & p, const Lora & lora, int64_t rows, int64_t cells);
    // Memory of one row with its cell.
    static size_t bytes_per_row(const Gemma3Params & p, const Lora & lora);

    const TapeLayer & layer(int i) const { return layers_[size_t(i)]; }
    ggml_tensor * out() const { return out_; }  // [D, rows] what the last layer gives
    const KvCache & cache() const { return cache_; }

  private:
    std::vector<TapeLayer> layers_;
    ggml_tensor * out_ = nullptr;
    std::vector<int64_t> widths_;
    int64_t rows_ = 0;
    KvCache cache_;
    Context ctx_;
    Buffer buffer_;
};

}  // namespace vg
