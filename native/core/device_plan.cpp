#include "device_plan.h"

namespace vg {

DevicePlan device_plan(const AttentionPlan & plan) {
    DevicePlan out;
    for (const auto & row : plan.rows)
        out.queries.push_back({0, row.position + 1, 0, row.position});
    out.first_use.assign(size_t(plan.n_keys) + 1, 0);
    for (const auto & b : plan.blocks) {
        for (int64_t t = b.q; t < b.q + b.n_q; ++t) {
            auto & query = out.queries[size_t(t)];
            if (b.col == 0) {
                query.prompt = int32_t(b.k);
            } else {
                query.own = int32_t(b.k);
                query.split = int32_t(b.col);
            }
        }
        for (int64_t k = b.k; k < b.k + b.n_k; ++k)
            out.first_use[size_t(k) + 1] += 1;
    }
    for (size_t k = 0; k < size_t(plan.n_keys); ++k)
        out.first_use[k + 1] += out.first_use[k];
    out.uses.resize(size_t(out.first_use.back()));
    std::vector<int32_t> next(out.first_use.begin(), out.first_use.end() - 1);
    for (const auto & b : plan.blocks) {
        for (int64_t i = 0; i < b.n_k; ++i)
            out.uses[size_t(next[size_t(b.k + i)]++)] = {int32_t(b.q), int32_t(b.n_q), int32_t(b.col + i)};
    }
    return out;
}

}  // namespace vg
