// Keys and values of the tokens that later ones attend to. A token's place in it is its cell.
#pragma once

#include <cstdint>
#include <vector>

#include "engine.h"
#include "gemma3.h"

namespace vg {

// Of one layer, [hd·n_kv, cells] each.
struct KvLayer {
    ggml_tensor * k;
    ggml_tensor * v;
};

// Kept between passes: fresh memory costs page faults.
class KvCache {
  public:
    // Room for `cells`; what was in it is lost when it grows. Throws E_LIMIT.
    void reserve(const Engine & engine, const Gemma3Params & p, int64_t cells);
    const std::vector<KvLayer> & layers() const { return layers_; }

  private:
    std::vector<KvLayer> layers_;
    int64_t cells_ = 0;
    Context ctx_;
    Buffer buffer_;
};

}  // namespace vg
