#include "adamw.h"

#include <algorithm>
#include <cmath>

#include "error.h"

namespace vg {

double adamw_step(Lora & lora, const AdamWOptions & o) {
    double total = 0;
    for (const auto & m : lora.matrices()) {
        const auto * g = static_cast<const float *>(m.gradient->data);
        double sum = 0;
        for (int64_t i = 0; i < m.size(); ++i)
            sum += double(g[i]) * g[i];
        if (!std::isfinite(sum)) {
            throw Error("E_NUMERIC", "the gradient of " + m.name + " is not finite",
                        "lower learning_rate or max_grad_norm; the adapter was not changed");
        }
        total += sum;
    }
    const double norm = std::sqrt(total);
    const double clip = o.max_grad_norm > 0 ? std::min(1.0, o.max_grad_norm / (norm + 1e-6)) : 1.0;

    lora.updates += 1;
    const double correction1 = 1 - std::pow(o.beta1, double(lora.updates));
    const double correction2 = std::sqrt(1 - std::pow(o.beta2, double(lora.updates)));
    for (auto & m : lora.matrices()) {
        auto * p = static_cast<float *>(m.data->data);
        auto * avg = static_cast<float *>(m.exp_avg->data);
        auto * sq = static_cast<float *>(m.exp_avg_sq->data);
        const auto * g = static_cast<const float *>(m.gradient->data);
        for (int64_t i = 0; i < m.size(); ++i) {
            const double gi = double(g[i]) * clip;
            const double a = o.beta1 * avg[i] + (1 - o.beta1) * gi;
            const double s = o.beta2 * sq[i] + (1 - o.beta2) * gi * gi;
            avg[i] = float(a);
            sq[i] = float(s);
            const double decayed = p[i] * (1 - o.learning_rate * o.weight_decay);
            p[i] = float(decayed - o.learning_rate / correction1 * a / (std::sqrt(s) / correction2 + o.epsilon));
        }
    }
    return norm;
}

}  // namespace vg
