#include "sampler.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "vec_math.h"

namespace vg {

static float inverse_temperature(double temperature) { return temperature > 0 ? float(1 / temperature) : 1.0f; }

// Maximum and sum over the whole vocabulary.
static PartialSum total_of(const SampledRow & row) {
    PartialSum total = {row.parts[0].max, 0};
    for (int i = 1; i < row.n_parts; ++i)
        total.max = std::max(total.max, row.parts[i].max);
    for (int i = 0; i < row.n_parts; ++i)
        total.sum += row.parts[i].sum * std::exp(double(row.parts[i].max) - double(total.max));
    return total;
}

// The tokens that top-k and top-p leave, most likely first.
static std::vector<int32_t> candidates(const SampledRow & row, const PartialSum & all, const SamplerOptions & o) {
    const float * logits = row.logits;
    const int64_t V = row.n_vocab;
    std::vector<int32_t> order(static_cast<size_t>(V));
    std::iota(order.begin(), order.end(), 0);
    const auto before = [&](int32_t a, int32_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; };
    const auto keep = o.top_k > 0 ? std::min<int64_t>(o.top_k, V) : V;
    if (keep < V) {
        std::nth_element(order.begin(), order.begin() + keep - 1, order.end(), before);
        order.resize(size_t(keep));
    }
    if (o.top_p >= 1) {
        std::sort(order.begin(), order.end(), before);
        return order;
    }
    // top-p over what top-k left: the shortest head of the sorted list that reaches top_p, sorted only as far as
    // needed.
    const float inverse = inverse_temperature(o.temperature);
    const auto weight = [&](int32_t t) { return std::exp(double(logits[t] * inverse - all.max)); };
    double total = 0;
    if (keep < V) {
        for (const int32_t t : order)
            total += weight(t);
    } else {
        total = all.sum;
    }
    double mass = 0;
    for (size_t sorted = 0, step = 256; sorted < order.size(); step *= 4) {
        const size_t next = std::min(order.size(), sorted + step);
        std::partial_sort(order.begin() + int64_t(sorted), order.begin() + int64_t(next), order.end(), before);
        for (; sorted < next; ++sorted) {
            mass += weight(order[sorted]);
            if (mass >= o.top_p * total) {
                order.resize(sorted + 1);
                return order;
            }
        }
    }
    return order;
}

static int32_t draw(const SampledRow & row, const SamplerOptions & o, double u) {
    const float inverse = inverse_temperature(o.temperature);
    const PartialSum all = total_of(row);
    if (o.top_k > 0 || o.top_p < 1) {
        const auto list = candidates(row, all, o);
        std::vector<double> mass(list.size());
        double total = 0;
        for (size_t i = 0; i < list.size(); ++i)
            mass[i] = total += std::exp(double(row.logits[list[i]] * inverse - all.max));
        const auto at = std::upper_bound(mass.begin(), mass.end(), u * total);
        return list[std::min(size_t(at - mass.begin()), list.size() - 1)];
    }
    // The part of the vocabulary first; the last one with any probability where rounding put the target at the very
    // end.
    const double target = u * all.sum;
    double mass = 0, before = 0;
    int part = 0;
    for (int i = 0; i < row.n_parts; ++i) {
        const double own = row.parts[i].sum * std::exp(double(row.parts[i].max) - double(all.max));
        if (own <= 0)
            continue;
        part = i;
        before = mass;
        mass += own;
        if (mass > target)
            break;
    }
    const int64_t begin = part * row.part_rows, end = std::min(row.n_vocab, begin + row.part_rows);
    int32_t last = int32_t(begin);
    mass = before;
    for (int64_t c = begin; c < end; ++c) {
        const double e = std::exp(double(row.logits[c] * inverse - all.max));
        mass += e;
        if (e > 0)
            last = int32_t(c);
        if (mass > target)
            break;
    }
    return last;
}

int32_t sample(const SampledRow & row, const SamplerOptions & o, double u) {
    if (o.temperature > 0)
        return draw(row, o, u);
    return int32_t(std::max_element(row.logits, row.logits + row.n_vocab) - row.logits);
}

}  // namespace vg
