#include "kv_cache.h"

namespace vg {

void KvCache::reserve(const Engine & engine, const Gemma3Params & p, int64_t cells) {
    if (cells <= cells_)
        return;
    buffer_.reset();
    layers_.clear();
    cells_ = 0;
    ctx_ = make_context(size_t(p.n_layer) * 2);
    const int64_t width = int64_t{p.head_dim} * p.n_head_kv;
    for (int i = 0; i < p.n_layer; ++i) {
        layers_.push_back({ggml_new_tensor_2d(ctx_.get(), GGML_TYPE_F32, width, cells),
                           ggml_new_tensor_2d(ctx_.get(), GGML_TYPE_F32, width, cells)});
    }
    buffer_ = engine.allocate(ctx_.get(), "the key/value cache");
    cells_ = cells;
}

}  // namespace vg
