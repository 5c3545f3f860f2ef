#include "tape.h"

#include <algorithm>
#include <numeric>

namespace vg {

// Columns of each tensor of the tape, layer after layer, in the order of TapeLayer's fields; `out` at the end.
static std::vector<int64_t> widths_of(const Gemma3Params & p, const Lora & lora) {
    std::vector<int64_t> widths;
    const int64_t D = p.n_embd;
    for (int i = 0; i < p.n_layer; ++i) {
        widths.insert(widths.end(), {D, group_out(p, QKV), group_in(p, O), D, D, group_out(p, GATE_UP), D});
        for (int g = 0; g < N_GROUPS; ++g) {
            const LoraGroup * group = lora.group(i, Group(g));
            widths.push_back(group ? group->width : 0);
        }
    }
    widths.push_back(D);
    return widths;
}

size_t Tape::bytes_per_row(const Gemma3Params & p, const Lora & lora) {
    const auto widths = widths_of(p, lora);
    const int64_t cell = int64_t{2} * p.head_dim * p.n_head_kv * p.n_layer;
    return size_t(std::accumulate(widths.begin(), widths.end(), cell)) * sizeof(float);
}

void Tape::reserve(const Engine & engine, const Gemma3Params & p, const Lora & lora, int64_t rows, int64_t cells) {
    cache_.reserve(engine, p, cells);
    auto widths = widths_of(p, lora);
    if (rows <= rows_ && widths == widths_)
        return;
    buffer_.reset();
    layers_.clear();
    rows_ = 0;
    ctx_ = make_context(widths.size());
    auto width = widths.begin();
    const auto next = [&]() -> ggml_tensor * {
        const int64_t n = *width++;
        return n > 0 ? ggml_new_tensor_2d(ctx_.get(), GGML_TYPE_F32, n, rows) : nullptr;
    };
    for (int i = 0; i < p.n_layer; ++i) {
        TapeLayer layer;
        for (ggml_tensor ** t : {&layer.x, &layer.qkv, &layer.o, &layer.ao, &layer.x1, &layer.gu, &layer.d})
            *t = next();
        for (ggml_tensor *& z : layer.z)
            z = next();
        layers_.push_back(layer);
    }
    out_ = next();
    buffer_ = engine.allocate(ctx_.get(), "the activations of this batch");
    widths_ = std::move(widths);
    rows_ = rows;
}

}  // namespace vg
