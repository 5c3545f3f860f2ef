#include "gemma3.h"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>

#include "error.h"
#include "gguf_reader.h"
#include "quoted.h"

namespace vg {

const char * module_name(Module module) {
    static const char * const names[N_MODULES] = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                                  "gate_proj", "up_proj", "down_proj"};
    return names[module];
}

std::string module_path(int layer, Module module) {
    return "model.layers." + std::to_string(layer) + (module <= O_PROJ ? ".self_attn." : ".mlp.") + module_name(module);
}

int64_t module_in(const Gemma3Params & p, Module module) {
    if (module == O_PROJ)
        return int64_t{p.n_head} * p.head_dim;
    return module == DOWN_PROJ ? p.n_ff : p.n_embd;
}

int64_t module_out(const Gemma3Params & p, Module module) {
    switch (module) {
        case Q_PROJ:
            return int64_t{p.n_head} * p.head_dim;
        case K_PROJ:
        case V_PROJ:
            return int64_t{p.n_head_kv} * p.head_dim;
        case GATE_PROJ:
        case UP_PROJ:
            return p.n_ff;
        default:
            return p.n_embd;
    }
}

GroupModules group_modules(Group group) {
    switch (group) {
        case QKV:
            return {Q_PROJ, 3};
        case O:
            return {O_PROJ, 1};
        case GATE_UP:
            return {GATE_PROJ, 2};
        default:
            return {DOWN_PROJ, 1};
    }
}

int64_t group_in(const Gemma3Params & p, Group group) { return module_in(p, group_modules(group).first); }

int64_t group_out(const Gemma3Params & p, Group group) {
    const auto [first, count] = group_modules(group);
    int64_t out = 0;
    for (int m = first; m < first + count; ++m)
        out += module_out(p, Module(m));
    return out;
}

// ---- hyper-parameters ----

static int checked(const GgufFile & file, const std::string & key, int64_t value, int64_t low, int64_t high) {
    if (value < low || value > high) {
        throw Error("E_MODEL",
                    file.path() + ": " + key + " is " + std::to_string(value) + ", expected " + std::to_string(low) +
                        " to " + std::to_string(high),
                    "the file is damaged or not a Gemma 3 model");
    }
    return int(value);
}

static float checked_float(const GgufFile & file, const std::string & key, double value, double low, double high) {
    if (!(value >= low && value <= high)) {
        throw Error("E_MODEL",
                    file.path() + ": " + key + " is " + std::to_string(value) + ", outside of what a model can have",
                    "the file is damaged or not a Gemma 3 model");
    }
    return float(value);
}

static Gemma3Params read_params(const GgufFile & file) {
    const std::string arch = file.get_string("general.architecture");
    if (arch != "gemma3") {
        throw Error("E_MODEL",
                    file.path() + ": expected a Gemma 3 model (general.architecture \"gemma3\"), found " + quoted(arch),
                    "choose a Gemma 3 text model in GGUF, for example gemma-3-270m-it");
    }
    const auto integer = [&](const char * name, int64_t low, int64_t high) {
        const std::string key = std::string("gemma3.") + name;
        return checked(file, key, file.get_int(key), low, high);
    };
    const auto integer_or = [&](const char * name, int64_t fallback, int64_t low, int64_t high) {
        const std::string key = std::string("gemma3.") + name;
        return checked(file, key, file.get_int(key, fallback), low, high);
    };
    const auto real_or = [&](const char * name, double fallback, double low, double high) {
        const std::string key = std::string("gemma3.") + name;
        return checked_float(file, key, file.get_float(key, fallback), low, high);
    };

    Gemma3Params p;
    p.name = file.get_string("general.name", "gemma3");
    p.n_layer = integer("block_count", 1, 1024);
    p.n_embd = integer("embedding_length", 1, 1 << 17);
    p.n_head = integer("attention.head_count", 1, 1024);
    p.n_head_kv = integer_or("attention.head_count_kv", p.n_head, 1, 1024);
    p.head_dim = integer_or("attention.key_length", p.n_embd / p.n_head, 2, 4096);
    p.n_ff = integer("feed_forward_length", 1, 1 << 20);
    p.n_ctx = integer("context_length", 1, 1 << 24);
    p.window = integer_or("attention.sliding_window", 0, 0, 1 << 24);
    p.window_pattern = integer_or("attention.sliding_window_pattern", 6, 1, 1024);
    p.rope_base = real_or("rope.freq_base", 1e6, 1, 1e12);
    p.rope_base_local = real_or("rope.freq_base_swa", 1e4, 1, 1e12);
    p.norm_eps = real_or("attention.layer_norm_rms_epsilon", 1e-6, 1e-12, 1e-1);
    if (p.head_dim % 2 != 0) {
        throw Error("E_MODEL",
                    file.path() + ": gemma3.attention.key_length is " + std::to_string(p.head_dim) +
                        ", expected an even number",
                    "the file is damaged or not a Gemma 3 model");
    }
    if (p.n_head % p.n_head_kv != 0) {
        throw Error("E_MODEL",
                    file.path() + ": " + std::to_string(p.n_head) + " heads cannot share " +
                        std::to_string(p.n_head_kv) + " key/value heads evenly",
                    "the file is damaged or not a Gemma 3 model");
    }
    const int value_length = integer_or("attention.value_length", p.head_dim, 1, 4096);
    if (value_length != p.head_dim)
        checked(file, "gemma3.attention.value_length", value_length, p.head_dim, p.head_dim);
    if (file.get_string("gemma3.rope.scaling.type", "none") == "linear") {
        p.rope_scale = 1.0f / real_or("rope.scaling.factor", 1, 1e-3, 1e6);
    }
    // Softcapping belongs to Gemma 2; a file that asks for it would be computed wrongly without a word.
    for (const char * key : {"gemma3.attn_logit_softcapping", "gemma3.final_logit_softcapping"}) {
        if (file.get_float(key, 0) != 0)
            throw Error("E_MODEL", file.path() + ": " + key + " is set, which belongs to another architecture",
                        "choose a Gemma 3 text model in GGUF");
    }
    // query_pre_attn_scalar, for which GGUF has no key: it is head_dim but for 27B, which llama.cpp too knows by its
    // layers.
    p.attention_scale = 1.0f / std::sqrt(float(p.n_layer == 62 ? p.n_embd / p.n_head : p.head_dim));
    return p;
}

// ---- weights ----

namespace {

bool all_exact(const std::vector<float> & values, ggml_type type) {
    for (const float v : values) {
        const float back =
            type == GGML_TYPE_BF16 ? ggml_bf16_to_fp32(ggml_fp32_to_bf16(v)) : ggml_fp16_to_fp32(ggml_fp32_to_fp16(v));
        if (back != v)
            return false;
    }
    return true;
}

// Rows converted at a time, so that loading needs little beside the weights.
int64_t rows_at_once(const GgufTensor & t) { return std::max<int64_t>(1, (int64_t{1} << 20) / t.ne[0]); }

void for_rows(const GgufTensor & t, std::vector<float> & rows, const std::function<bool(int64_t, int64_t)> & f) {
    const int64_t n_rows = t.nelements() / t.ne[0], step = rows_at_once(t);
    for (int64_t row = 0; row < n_rows; row += step) {
        const int64_t n = std::min(step, n_rows - row);
        rows.resize(size_t(n * t.ne[0]));
        GgufFile::to_f32(t, row, n, rows.data());
        if (!f(row, n))
            return;
    }
}

// The smallest type that holds the tensor without loss.
ggml_type lossless_type(const GgufTensor & t) {
    if (t.type == GGML_TYPE_F16 || t.type == GGML_TYPE_BF16 || t.type == GGML_TYPE_Q8_0)
        return t.type;
    bool bf16 = true, f16 = true;
    std::vector<float> rows;
    for_rows(t, rows, [&](int64_t, int64_t) {
        bf16 = bf16 && all_exact(rows, GGML_TYPE_BF16);
        f16 = f16 && all_exact(rows, GGML_TYPE_F16);
        return bf16 || f16;
    });
    return bf16 ? GGML_TYPE_BF16 : f16 ? GGML_TYPE_F16 : GGML_TYPE_F32;
}

ggml_type matrix_type(const GgufTensor & t, const std::string & type) {
    if (type == "auto")
        return lossless_type(t);
    if (type == "f32")
        return GGML_TYPE_F32;
    if (type == "f16")
        return GGML_TYPE_F16;
    if (type == "bf16")
        return GGML_TYPE_BF16;
    if (type == "q8_0")
        return t.ne[0] % 32 == 0 ? GGML_TYPE_Q8_0 : GGML_TYPE_F16;
    throw Error("E_ARGUMENT", "the base type is \"" + type + "\", expected auto, f32, f16, bf16 or q8_0");
}

// A type for matrices that are stored as one: their own where they agree, else f32, which loses nothing.
ggml_type common_type(const std::vector<const GgufTensor *> & sources, const std::string & type) {
    const ggml_type first = matrix_type(*sources[0], type);
    for (const GgufTensor * source : sources) {
        if (matrix_type(*source, type) != first)
            return GGML_TYPE_F32;
    }
    return first;
}

struct Pending {
    ggml_tensor * tensor;
    const GgufTensor * source;
};

const GgufTensor & require(const GgufFile & file, const std::string & name, int64_t ne0, int64_t ne1) {
    const GgufTensor * t = file.find(name);
    if (!t) {
        throw Error("E_MODEL", file.path() + ": tensor " + name + " is missing",
                    "the file is incomplete; fetch or convert it again");
    }
    if (t->ne[0] != ne0 || t->ne[1] != ne1 || t->ne[2] != 1 || t->ne[3] != 1) {
        throw Error("E_MODEL",
                    file.path() + ": tensor " + name + " has shape [" + std::to_string(t->ne[0]) + ", " +
                        std::to_string(t->ne[1]) + "], expected [" + std::to_string(ne0) + ", " + std::to_string(ne1) +
                        "]",
                    "the file does not fit its own hyper-parameters; fetch or convert it again");
    }
    if (t->type != GGML_TYPE_F32 && ggml_get_type_traits(t->type)->to_float == nullptr) {
        throw Error("E_MODEL",
                    file.path() + ": tensor " + name + " has type " + ggml_type_name(t->type) +
                        ", which holds no weights",
                    "choose another file of this model, for example Q8_0 or F16");
    }
    return *t;
}

// Every tensor that a layer should have is asked for by name. This finds the layers that block_count leaves out.
void refuse_more_layers(const GgufFile & file, int n_layer) {
    for (const GgufTensor & t : file.tensors()) {
        int layer = -1;
        if (std::sscanf(t.name.c_str(), "blk.%9d.", &layer) == 1 && layer >= n_layer) {
            throw Error("E_MODEL",
                        file.path() + ": tensor " + quoted(t.name) +
                            " belongs to a layer past gemma3.block_count, which is " + std::to_string(n_layer),
                        "the file does not fit its own hyper-parameters; fetch or convert it again");
        }
    }
}

// The largest magnitude that the type can hold; q8_0 stores a block's scale, its largest magnitude / 127, in f16.
float largest(ggml_type type) {
    return type == GGML_TYPE_F16 ? 65504.0f : type == GGML_TYPE_Q8_0 ? 127 * 65504.0f : HUGE_VALF;
}

void fill(const Pending & p, const std::string & path) {
    std::vector<float> rows;
    for_rows(*p.source, rows, [&](int64_t row, int64_t n) {
        for (const float v : rows) {
            if (!std::isfinite(v)) {
                throw Error("E_MODEL", path + ": tensor " + p.source->name + " holds NaN or infinity",
                            "the model file is damaged; fetch or convert it again");
            }
            if (std::fabs(v) > largest(p.tensor->type)) {
                throw Error("E_MODEL",
                            path + ": tensor " + p.source->name + " holds values too large for " +
                                ggml_type_name(p.tensor->type),
                            "choose the base type auto, bf16 or f32");
            }
        }
        char * to = static_cast<char *>(p.tensor->data) + size_t(row) * p.tensor->nb[1];
        const auto count = int64_t(rows.size());
        switch (p.tensor->type) {
            case GGML_TYPE_F32:
                std::memcpy(to, rows.data(), rows.size() * sizeof(float));
                break;
            case GGML_TYPE_F16:
                ggml_fp32_to_fp16_row(rows.data(), reinterpret_cast<ggml_fp16_t *>(to), count);
                break;
            case GGML_TYPE_BF16:
                ggml_fp32_to_bf16_row_ref(rows.data(), reinterpret_cast<ggml_bf16_t *>(to), count);
                break;
            default:
                if (p.source->type == p.tensor->type) {
                    std::memcpy(to, p.source->data + size_t(row) * p.tensor->nb[1], size_t(n) * p.tensor->nb[1]);
                } else {
                    ggml_quantize_chunk(p.tensor->type, rows.data(), to, 0, n, p.source->ne[0], nullptr);
                }
        }
        return true;
    });
}

}  // namespace

Gemma3::Gemma3(const GgufFile & file, const std::string & type, const Engine & engine) : params_(read_params(file)) {
    // The vocabulary is the embedding's own row count; a tokenizer of another size is the caller's check.
    const GgufTensor * embedding = file.find("token_embd.weight");
    if (!embedding)
        throw Error("E_MODEL", file.path() + ": tensor token_embd.weight is missing",
                    "choose a whole model, not an adapter");
    params_.n_vocab = checked(file, "the vocabulary (rows of token_embd.weight)", embedding->ne[1], 1, 1 << 24);

    refuse_more_layers(file, params_.n_layer);

    const size_t n_tensors = 4 + size_t(params_.n_layer) * (8 + N_GROUPS + N_MODULES);
    ctx_ = make_context(n_tensors);
    std::vector<Pending> pending;
    const auto vector = [&](const std::string & name, int64_t n) {
        ggml_tensor * t = ggml_new_tensor_1d(ctx_.get(), GGML_TYPE_F32, n);
        pending.push_back({t, &require(file, name, n, 1)});
        return t;
    };
    const auto matrix = [&](const std::string & name, int64_t in, int64_t out) {
        const GgufTensor & source = require(file, name, in, out);
        ggml_tensor * t = ggml_new_tensor_2d(ctx_.get(), matrix_type(source, type), in, out);
        pending.push_back({t, &source});
        return t;
    };

    const int64_t D = params_.n_embd;
    token_embd_ = matrix("token_embd.weight", D, params_.n_vocab);
    output_ = file.find("output.weight") ? matrix("output.weight", D, params_.n_vocab) : token_embd_;
    output_norm_ = vector("output_norm.weight", D);
    static const char * const names[N_MODULES] = {"attn_q",   "attn_k", "attn_v",  "attn_output",
                                                  "ffn_gate", "ffn_up", "ffn_down"};
    for (int i = 0; i < params_.n_layer; ++i) {
        const std::string blk = "blk." + std::to_string(i) + ".";
        Gemma3Layer layer = {};
        layer.attn_norm = vector(blk + "attn_norm.weight", D);
        layer.q_norm = vector(blk + "attn_q_norm.weight", params_.head_dim);
        layer.k_norm = vector(blk + "attn_k_norm.weight", params_.head_dim);
        layer.post_attn_norm = vector(blk + "post_attention_norm.weight", D);
        layer.ffn_norm = vector(blk + "ffn_norm.weight", D);
        layer.post_ffn_norm = vector(blk + "post_ffw_norm.weight", D);
        for (int g = 0; g < N_GROUPS; ++g) {
            const auto [module, count] = group_modules(Group(g));
            const int64_t in = group_in(params_, Group(g));
            std::vector<const GgufTensor *> sources;
            for (int m = module; m < module + count; ++m)
                sources.push_back(&require(file, blk + names[m] + ".weight", in, module_out(params_, Module(m))));
            ggml_tensor * whole =
                ggml_new_tensor_2d(ctx_.get(), common_type(sources, type), in, group_out(params_, Group(g)));
            layer.group[g] = whole;
            int64_t row = 0;
            for (const GgufTensor * source : sources) {
                const int64_t out = source->ne[1];
                pending.push_back(
                    {ggml_view_2d(ctx_.get(), whole, in, out, whole->nb[1], size_t(row) * whole->nb[1]), source});
                row += out;
            }
        }
        layers_.push_back(layer);
    }
    buffer_ = engine.allocate(ctx_.get(), "the model's weights");
    ggml_backend_buffer_set_usage(buffer_.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    for (const auto & p : pending) {
        fill(p, file.path());
        n_parameters_ += ggml_nelements(p.tensor);
    }

    // What most of the weights are stored as: the embedding outweighs each other tensor.
    type_name_ = ggml_type_name(token_embd_->type);
}

int64_t Gemma3::n_linear_parameters() const {
    int64_t n = 0;
    for (int m = 0; m < N_MODULES; ++m)
        n += module_in(params_, Module(m)) * module_out(params_, Module(m));
    return n * params_.n_layer;
}

}  // namespace vg
