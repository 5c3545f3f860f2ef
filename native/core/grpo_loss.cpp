#include "grpo_loss.h"

#include <algorithm>
#include <cmath>

namespace vg {

GrpoToken grpo_token(double logp, const float * old_logp, const float * ref_logp, double advantage,
                     const GrpoOptions & o) {
    GrpoToken out;
    const double A = advantage, low = 1 - double(o.epsilon), high = 1 + double(o.epsilon_high);
    if (old_logp)
        out.ratio = std::exp(logp - double(*old_logp));
    const double plain = out.ratio * A;
    const double clipped = std::clamp(out.ratio, low, high) * A;
    out.loss = -std::min(plain, clipped);
    out.slope = plain <= clipped ? -out.ratio * A : 0;
    out.clip_low = out.ratio < low && A < 0;
    out.clip_high = out.ratio > high && A > 0;
    if (o.beta > 0 && ref_logp) {
        const double gap = double(*ref_logp) - logp, e = std::exp(gap);
        out.kl = e - gap - 1;
        out.loss += double(o.beta) * out.kl;
        out.slope += double(o.beta) * (1 - e);
    }
    return out;
}

}  // namespace vg
