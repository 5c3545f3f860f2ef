#include "kept_pass.h"

#include <algorithm>

namespace vg {

static bool same_prompt(const PackedInput & x, int64_t a, const PackedInput & y, int64_t b) {
    const int32_t P = x.prompt_lengths[a];
    if (y.prompt_lengths[b] != P)
        return false;
    const int32_t *left = x.prompt(a), *right = y.prompt(b);
    if (!std::equal(left, left + P, right))
        return false;
    for (int64_t g = 0; g < x.n_generations; ++g) {
        const int64_t n = a * x.n_generations + g, m = b * y.n_generations + g;
        if (x.lengths[n] != y.lengths[m])
            return false;
        const int32_t * own = x.tokens + n * x.max_length;
        if (!std::equal(own, own + x.lengths[n], y.tokens + m * y.max_length))
            return false;
    }
    return true;
}

int64_t find_kept(const KeptPass & kept, const PackedInput & input, int64_t b) {
    const PackedInput own = kept.input();
    if (own.n_generations != input.n_generations)
        return -1;
    for (int64_t i = 0; i < own.n_prompts; ++i) {
        if (same_prompt(own, i, input, b))
            return i;
    }
    return -1;
}

}  // namespace vg
