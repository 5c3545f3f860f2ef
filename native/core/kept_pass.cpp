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

int64_t find_kept(const KeptPass & kept, const PackedInput & input, int64_t b, int64_t guess) {
    const PackedInput own = kept.input();
    if (own.n_generations != input.n_generations)
        return -1;
    for (int64_t i = 0; i < own.n_prompts; ++i) {
        const int64_t a = (guess + i) % own.n_prompts;
        if (same_prompt(own, a, input, b))
            return a;
    }
    return -1;
}

Recalled recall(const KeptPass & kept, const PackedInput & input, const std::vector<int64_t> & prompts,
                PackedBatch & batch, int64_t D) {
    Recalled out;
    const auto completion = [&](int64_t n) {
        const int64_t b = n / input.n_generations;
        return n + (prompts[std::size_t(b)] - b) * input.n_generations;
    };
    for (TokenOrigin t : batch.origins) {
        t.prompt = int32_t(prompts[std::size_t(t.prompt)]);
        if (t.completion >= 0)
            t.completion = int32_t(completion(t.completion));
        out.rows.push_back(int32_t(kept.row_of(t)));
        out.cells.push_back(int32_t(kept.cell_of(t)));
    }
    for (const int32_t row : batch.head_rows) {
        const auto column = kept.columns[std::size_t(out.rows[std::size_t(row)])];
        out.sweep.lse.push_back(kept.lse[std::size_t(column)]);
        out.sweep.entropy.push_back(kept.entropy[std::size_t(column)]);
        const float * from = kept.expectation.data() + column * D;
        out.sweep.expectation.insert(out.sweep.expectation.end(), from, from + D);
    }
    for (const auto & target : batch.targets) {
        const int64_t n = completion(target.slot / input.max_length), t = target.slot % input.max_length;
        out.sweep.target_logits.push_back(kept.target_logits[std::size_t(n * kept.max_length + t)]);
    }
    // The keys of a block follow one another in the cache as they do in the stream.
    for (auto & block : batch.plan.blocks)
        block.k = out.cells[std::size_t(block.k)];
    batch.plan.n_keys = kept.n_cells;
    return out;
}

}  // namespace vg
