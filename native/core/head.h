// The output head: logits over V, log-softmax of chosen tokens and its gradient, without a [rows × V] array in
// training.
#pragma once

#include <cstdint>
#include <vector>

#include "engine.h"
#include "packed_batch.h"

namespace vg {

class Head {
  public:
    // output [D, V] in ggml's order, of any type gemm() takes.
    Head(const ggml_tensor * output, Engine & engine);

    // hidden [D, rows] -> logits [V, rows], not divided by a temperature.
    void logits(const float * hidden, int64_t rows, float * out);

    // One sweep over the vocabulary with a running maximum, sum and, for the gradient, running Σ_v p_v W_v.
    struct Sweep {
        std::vector<double> lse;            // [R] log Σ e^(logit/τ)
        std::vector<double> entropy;        // [R] of softmax(logits/τ)
        std::vector<double> target_logits;  // [targets] logit/τ
        std::vector<float> expectation;     // [R, D] E_p[W], only when asked for
    };
    Sweep sweep(const float * hidden, int64_t rows, const std::vector<HeadTarget> & targets, double temperature,
                bool expectation);

    // d hidden [R, D] from slopes d loss / d log-probability of each target: (slope / τ) (W[token] - E_p[W]).
    std::vector<float> backward(const Sweep & sweep, int64_t rows, const std::vector<HeadTarget> & targets,
                                const std::vector<double> & slopes, double temperature) const;

  private:
    const ggml_tensor * output_;
    Engine & engine_;
};

}  // namespace vg
