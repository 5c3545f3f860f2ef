// The clipped GRPO objective of one token and its derivative.
// Shao et al., "DeepSeekMath", 2024 (objective, k3 estimator); Yu et al., "DAPO", 2025 (epsilon_high). As TRL's
// GRPOTrainer.
#pragma once

#include <cstdint>
#include <vector>

namespace vg {

struct GrpoOptions {
    float epsilon = 0.2f;
    float epsilon_high = 0.2f;
    float beta = 0;
};

struct GrpoToken {
    double loss = 0;         // -min(ρA, clip(ρ, 1-ε, 1+ε_high)A) + β·k3
    double slope = 0;        // d loss / d log-probability
    double ratio = 1;        // ρ
    double kl = 0;           // k3 = e^(ref-new) - (ref-new) - 1
    bool clip_low = false;   // ρ < 1-ε with A < 0: the gradient is cut
    bool clip_high = false;  // ρ > 1+ε_high with A > 0
};

// old_logp, ref_logp: null when the policy is the rollout's own, and without a KL term.
GrpoToken grpo_token(double logp, const float * old_logp, const float * ref_logp, double advantage,
                     const GrpoOptions & options);

}  // namespace vg
