#include "lora.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "error.h"
#include "philox.h"

namespace vg {

static void shape_of(const Gemma3Params & m, int64_t out[6]) {
    const int64_t shape[6] = {m.n_layer, m.n_embd, m.n_head, m.n_head_kv, m.head_dim, m.n_ff};
    std::copy(shape, shape + 6, out);
}

Lora::Lora(const Gemma3Params & model, const Engine & engine, int rank, float alpha,
           const std::vector<std::string> & targets, uint64_t seed)
    : rank_(rank), alpha_(alpha) {
    if (rank < 1 || rank > 1024)
        throw Error("E_ARGUMENT", "LoRA rank must be between 1 and 1024, not " + std::to_string(rank));
    if (!(alpha > 0) || !std::isfinite(alpha))
        throw Error("E_ARGUMENT", "LoRA alpha must be a positive number");
    shape_of(model, shape_);

    bool wanted[N_MODULES] = {};
    for (const auto & target : targets) {
        int m = 0;
        while (m < N_MODULES && target != module_name(Module(m)))
            ++m;
        if (m == N_MODULES) {
            throw Error("E_ARGUMENT", "unknown LoRA target module \"" + target + "\"",
                        "choose from q_proj k_proj v_proj o_proj gate_proj up_proj down_proj");
        }
        wanted[m] = true;
    }
    if (targets.empty())
        throw Error("E_ARGUMENT", "LoRA needs at least one target module");

    for (int layer = 0; layer < model.n_layer; ++layer) {
        for (int m = 0; m < N_MODULES; ++m) {
            if (!wanted[m])
                continue;
            const std::string path = module_path(layer, Module(m));
            LoraMatrix a, b;
            a.name = path + ".lora_A.weight";
            a.rows = rank, a.cols = module_in(model, Module(m));
            b.name = path + ".lora_B.weight";
            b.rows = module_out(model, Module(m)), b.cols = rank;
            matrices_.push_back(a);
            matrices_.push_back(b);
        }
    }
    ctx_ = make_context(matrices_.size() * 4);
    for (auto & m : matrices_) {
        for (ggml_tensor ** t : {&m.data, &m.gradient, &m.exp_avg, &m.exp_avg_sq}) {
            *t = ggml_new_tensor_2d(ctx_.get(), GGML_TYPE_F32, m.cols, m.rows);
        }
    }
    buffer_ = engine.allocate(ctx_.get(), "the adapter");
    ggml_backend_buffer_clear(buffer_.get(), 0);

    pairs_.resize(size_t(model.n_layer) * N_MODULES);
    auto next = matrices_.begin();
    for (int layer = 0; layer < model.n_layer; ++layer) {
        for (int m = 0; m < N_MODULES; ++m) {
            if (!wanted[m])
                continue;
            auto & pair = pairs_[size_t(layer * N_MODULES + m)];
            pair.a = &*next++;
            pair.b = &*next++;
        }
    }
    // kaiming_uniform(a = √5) on A is uniform in ±1/√in; B stays zero, so that the adapter starts as the identity.
    for (size_t i = 0; i < matrices_.size(); i += 2) {
        auto & a = matrices_[i];
        const float bound = 1.0f / std::sqrt(float(a.cols));
        auto * values = static_cast<float *>(a.data->data);
        for (int64_t j = 0; j < a.size(); ++j) {
            values[j] =
                bound * float(2 * philox_uniform(seed, uint32_t(j), uint32_t(j >> 32), uint32_t(i), 0x4C6F5241) - 1);
        }
    }
}

bool Lora::fits(const Gemma3Params & model) const {
    int64_t shape[6];
    shape_of(model, shape);
    return std::equal(shape, shape + 6, shape_);
}

void Lora::zero_gradient() {
    for (auto & m : matrices_)
        std::memset(m.gradient->data, 0, ggml_nbytes(m.gradient));
}

}  // namespace vg
