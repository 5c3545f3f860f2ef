// Gemma 3 text model: hyper-parameters and frozen weights, read from GGUF.
// Names and meaning as in llama.cpp's "gemma3" architecture; the norms' +1 is already in the file.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine.h"

namespace vg {

class GgufFile;

struct Gemma3Params {
    std::string name;
    int n_layer = 0;
    int n_embd = 0;  // D
    int n_head = 0;
    int n_head_kv = 0;
    int head_dim = 0;
    int n_ff = 0;
    int n_vocab = 0;               // V
    int n_ctx = 0;                 // longest position + 1
    int window = 0;                // tokens a sliding layer sees, itself included; 0: every layer sees all
    int window_pattern = 6;        // layer i slides unless (i + 1) is a multiple of it
    float rope_base = 1e6f;        // full layers
    float rope_base_local = 1e4f;  // sliding layers
    float rope_scale = 1.0f;       // frequency scale of full layers
    float norm_eps = 1e-6f;
    float attention_scale = 0;

    bool sliding(int layer) const { return window > 0 && (layer + 1) % window_pattern != 0; }
};

// The linear layers that LoRA can adapt, in the order of their use.
enum Module { Q_PROJ, K_PROJ, V_PROJ, O_PROJ, GATE_PROJ, UP_PROJ, DOWN_PROJ, N_MODULES };
const char * module_name(Module module);                    // PEFT's: "q_proj"
std::string module_path(int layer, Module module);          // PEFT's: "model.layers.0.self_attn.q_proj"
int64_t module_in(const Gemma3Params & p, Module module);   // columns of the weight
int64_t module_out(const Gemma3Params & p, Module module);  // rows

// Linear layers that read the same input are one product: their weights stand row after row in one matrix.
enum Group { QKV, O, GATE_UP, DOWN, N_GROUPS };
struct GroupModules {
    Module first;
    int count;
};
GroupModules group_modules(Group group);
int64_t group_in(const Gemma3Params & p, Group group);
int64_t group_out(const Gemma3Params & p, Group group);

struct Gemma3Layer {
    ggml_tensor * attn_norm;        // [D]
    ggml_tensor * q_norm;           // [hd]
    ggml_tensor * k_norm;           // [hd]
    ggml_tensor * post_attn_norm;   // [D]
    ggml_tensor * ffn_norm;         // [D]
    ggml_tensor * post_ffn_norm;    // [D]
    ggml_tensor * group[N_GROUPS];  // [in, out] in ggml's order
};

class Gemma3 {
  public:
    // type: "auto" (per tensor the smallest type that loses nothing), "f32", "f16", "bf16" or "q8_0".
    // Throws E_MODEL for a file that is not a well-formed Gemma 3, NaN or infinity in a weight included.
    Gemma3(const GgufFile & file, const std::string & type, const Engine & engine);

    const Gemma3Params & params() const { return params_; }
    const Gemma3Layer & layer(int i) const { return layers_[size_t(i)]; }
    ggml_tensor * token_embd() const { return token_embd_; }    // [D, V]
    ggml_tensor * output() const { return output_; }            // [D, V], the same tensor when tied
    ggml_tensor * output_norm() const { return output_norm_; }  // [D]
    int64_t n_parameters() const { return n_parameters_; }
    int64_t n_linear_parameters() const;  // of the seven matrices of all layers
    double linear_flops(int64_t tokens) const { return 2.0 * double(n_linear_parameters()) * double(tokens); }
    const std::string & type_name() const { return type_name_; }

  private:
    Gemma3Params params_;
    std::vector<Gemma3Layer> layers_;
    ggml_tensor * token_embd_ = nullptr;
    ggml_tensor * output_ = nullptr;
    ggml_tensor * output_norm_ = nullptr;
    int64_t n_parameters_ = 0;
    std::string type_name_;
    Context ctx_;
    Buffer buffer_;
};

}  // namespace vg
