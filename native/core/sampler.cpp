#include "sampler.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "vec_math.h"

namespace vg {

static float inverse_temperature(double temperature) { return temperature > 0 ? float(1 / temperature) : 1.0f; }

// e^((x - max)·inverse) of up to kVec entries, zero beyond n.
static vf weights(const float * logits, int64_t n, float max, float inverse) {
    vf x = vf_set(max);
    std::memcpy(&x, logits, size_t(n) * sizeof(float));
    vf e = vf_exp((x - max) * inverse);
    for (int64_t j = n; j < kVec; ++j)
        e[j] = 0;
    return e;
}

RowStats row_stats(const float * logits, int64_t V, double temperature) {
    RowStats stats = {*std::max_element(logits, logits + V), 0};
    const float inverse = inverse_temperature(temperature);
    for (int64_t c = 0; c < V; c += kVec) {
        stats.sum += double(vf_sum(weights(logits + c, std::min<int64_t>(kVec, V - c), stats.max, inverse)));
    }
    return stats;
}

// The tokens that top-k and top-p leave, most likely first.
static std::vector<int32_t> candidates(const float * logits, int64_t V, const RowStats & stats,
                                       const SamplerOptions & o) {
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
    const auto weight = [&](int32_t t) { return std::exp(double((logits[t] - stats.max) * inverse)); };
    double total = 0;
    if (keep < V) {
        for (const int32_t t : order)
            total += weight(t);
    } else {
        total = stats.sum;
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

static int32_t draw(const float * logits, int64_t V, const RowStats & stats, const SamplerOptions & o, double u) {
    const float inverse = inverse_temperature(o.temperature);
    if (o.top_k > 0 || o.top_p < 1) {
        const auto list = candidates(logits, V, stats, o);
        std::vector<double> mass(list.size());
        double total = 0;
        for (size_t i = 0; i < list.size(); ++i)
            mass[i] = total += std::exp(double((logits[list[i]] - stats.max) * inverse));
        const auto at = std::upper_bound(mass.begin(), mass.end(), u * total);
        return list[std::min(size_t(at - mass.begin()), list.size() - 1)];
    }
    const double target = u * stats.sum;
    double mass = 0;
    int32_t last = 0;  // the last token with any probability, for a target that rounding put at the very end
    for (int64_t c = 0; c < V; c += kVec) {
        const auto n = std::min<int64_t>(kVec, V - c);
        const vf e = weights(logits + c, n, stats.max, inverse);
        const double after = mass + double(vf_sum(e));
        if (after > target) {
            for (int64_t j = 0; j < n; ++j) {
                mass += double(e[j]);
                if (e[j] > 0)
                    last = int32_t(c + j);
                if (mass > target)
                    return last;
            }
            return last;
        }
        mass = after;
        for (int64_t j = n - 1; j >= 0; --j) {
            if (e[j] > 0) {
                last = int32_t(c + j);
                break;
            }
        }
    }
    return last;
}

Sampled sample(const float * logits, int64_t V, const RowStats & stats, const SamplerOptions & o, double u) {
    const int32_t token =
        o.temperature > 0 ? draw(logits, V, stats, o, u) : int32_t(std::max_element(logits, logits + V) - logits);
    const double inverse = o.temperature > 0 ? 1 / o.temperature : 1;
    return {token, (double(logits[token]) - double(stats.max)) * inverse - std::log(stats.sum)};
}

}  // namespace vg
