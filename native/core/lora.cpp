#include "lora.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

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

    const size_t most = size_t(model.n_layer) * (N_MODULES * 2 + N_GROUPS) * 4;
    ctx_ = make_context(most);
    groups_.resize(size_t(model.n_layer) * N_GROUPS);
    matrices_.reserve(size_t(model.n_layer) * N_MODULES * 2);  // parts point into it
    for (int layer = 0; layer < model.n_layer; ++layer) {
        for (int g = 0; g < N_GROUPS; ++g)
            add_group(model, layer, Group(g), wanted);
    }
    buffer_ = engine.allocate(ctx_.get(), "the adapter");
    ggml_backend_buffer_clear(buffer_.get(), 0);

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

void Lora::add_group(const Gemma3Params & model, int layer, Group g, const bool * wanted) {
    auto & group = groups_[size_t(layer * N_GROUPS + g)];
    const auto [first, count] = group_modules(g);
    const int64_t in = group_in(model, g);
    for (int m = first; m < first + count; ++m)
        group.width += wanted[m] ? rank_ : 0;
    if (group.width == 0)
        return;
    ggml_tensor * stacked[4];  // data, gradient, exp_avg, exp_avg_sq
    for (auto & t : stacked)
        t = ggml_new_tensor_2d(ctx_.get(), GGML_TYPE_F32, in, group.width);
    group.a = stacked[0];
    group.a_gradient = stacked[1];
    int64_t row = 0, z = 0;
    for (int m = first; m < first + count; ++m) {
        const int64_t out = module_out(model, Module(m));
        if (wanted[m]) {
            const std::string path = module_path(layer, Module(m));
            LoraMatrix a, b;
            a.name = path + ".lora_A.weight";
            a.rows = rank_, a.cols = in;
            b.name = path + ".lora_B.weight";
            b.rows = out, b.cols = rank_;
            ggml_tensor ** of_a[] = {&a.data, &a.gradient, &a.exp_avg, &a.exp_avg_sq};
            ggml_tensor ** of_b[] = {&b.data, &b.gradient, &b.exp_avg, &b.exp_avg_sq};
            for (int i = 0; i < 4; ++i) {
                const size_t row_bytes = stacked[i]->nb[1];
                *of_a[i] = ggml_view_2d(ctx_.get(), stacked[i], in, rank_, row_bytes, size_t(z) * row_bytes);
                *of_b[i] = ggml_new_tensor_2d(ctx_.get(), GGML_TYPE_F32, rank_, out);
            }
            matrices_.push_back(a);
            matrices_.push_back(b);
            group.parts.push_back({&matrices_.back(), row, out, z});
            z += rank_;
        }
        row += out;
    }
}

bool Lora::fits(const Gemma3Params & model) const {
    int64_t shape[6];
    shape_of(model, shape);
    return std::equal(shape, shape + 6, shape_);
}

uint64_t Lora::fingerprint() const {
    // Four independent chains, so that the multiplications overlap; the constants are those of splitmix64.
    uint64_t chain[4] = {uint64_t(rank_), 1, 2, 3};
    const auto add = [&](uint64_t word, int i) {
        chain[i] = (chain[i] ^ word) * 0xbf58476d1ce4e5b9u;
        chain[i] ^= chain[i] >> 29;
    };
    uint32_t alpha;
    std::memcpy(&alpha, &alpha_, sizeof alpha);
    add(alpha, 0);
    for (const auto & m : matrices_) {
        add(std::hash<std::string>()(m.name), 1);
        const auto * values = static_cast<const char *>(m.data->data);
        const auto bytes = size_t(m.size()) * sizeof(float);
        size_t i = 0;
        for (; i + 32 <= bytes; i += 32) {
            uint64_t words[4];
            std::memcpy(words, values + i, 32);
            for (int c = 0; c < 4; ++c)
                add(words[c], c);
        }
        for (; i < bytes; i += sizeof(float)) {
            uint32_t word;
            std::memcpy(&word, values + i, sizeof word);
            add(word, 0);
        }
    }
    for (int c = 1; c < 4; ++c)
        add(chain[c], 0);
    return chain[0];
}

void Lora::zero_gradient() {
    for (auto & m : matrices_)
        std::memset(m.gradient->data, 0, ggml_nbytes(m.gradient));
}

}  // namespace vg
