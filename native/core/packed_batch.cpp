#include "packed_batch.h"

#include <algorithm>
#include <numeric>

namespace vg {

const int32_t * PackedInput::prompt(int64_t b) const {
    return std::accumulate(prompt_lengths, prompt_lengths + b, prompt_tokens);
}

PackedBatch pack(const PackedInput & in, const std::vector<int64_t> & prompts, int n_head) {
    PackedBatch out;
    out.plan.n_head = n_head;

    for (const int64_t b : prompts) {
        const int32_t P = in.prompt_lengths[b];
        const auto n0 = b * in.n_generations;
        int32_t longest = 0;
        for (int64_t n = n0; n < n0 + in.n_generations; ++n)
            longest = std::max(longest, in.lengths[n]);
        if (longest == 0)
            continue;

        const auto base = int64_t(out.tokens.size());
        const int32_t * prompt = in.prompt(b);
        for (int32_t p = 0; p < P; ++p) {
            out.tokens.push_back(prompt[p]);
            out.positions.push_back(p);
            out.origins.push_back({int32_t(b), -1, p});
            out.plan.add_row(p, P);
        }
        out.plan.add_prompt(base, base, P);

        const auto prompt_row = int32_t(out.head_rows.size());
        out.head_rows.push_back(int32_t(base + P - 1));

        const auto completions = int64_t(out.tokens.size());
        std::vector<AttentionBlock> own;
        for (int64_t n = n0; n < n0 + in.n_generations; ++n) {
            const int32_t len = in.lengths[n];
            const int32_t * row = in.tokens + n * in.max_length;
            if (len == 0)
                continue;
            out.targets.push_back({prompt_row, row[0], n * in.max_length});
            if (len > 1)
                own.push_back({int64_t(out.tokens.size()), len - 1, int64_t(out.tokens.size()), len - 1, P, P});
            // The last token is only a target: nothing is predicted from it.
            for (int32_t t = 0; t + 1 < len; ++t) {
                out.targets.push_back({int32_t(out.head_rows.size()), row[t + 1], n * in.max_length + t + 1});
                out.head_rows.push_back(int32_t(out.tokens.size()));
                out.tokens.push_back(row[t]);
                out.positions.push_back(P + t);
                out.origins.push_back({int32_t(b), int32_t(n), t});
                out.plan.add_row(P + t, P + longest - 1);
            }
        }
        if (!own.empty()) {
            out.plan.blocks.push_back({completions, int64_t(out.tokens.size()) - completions, base, P, 0, P});
            out.plan.blocks.insert(out.plan.blocks.end(), own.begin(), own.end());
        }
    }
    out.plan.n_keys = int64_t(out.tokens.size());
    return out;
}

std::vector<std::vector<int64_t>> split_prompts(const PackedInput & in, const std::vector<int64_t> & prompts,
                                                int64_t budget) {
    std::vector<std::vector<int64_t>> runs;
    int64_t used = 0;
    for (const int64_t b : prompts) {
        int64_t need = in.prompt_lengths[b];
        for (int64_t n = b * in.n_generations; n < (b + 1) * in.n_generations; ++n)
            need += in.lengths[n];
        if (runs.empty() || used + need > budget) {
            runs.emplace_back();
            used = 0;
        }
        runs.back().push_back(b);
        used += need;
    }
    return runs;
}

}  // namespace vg
