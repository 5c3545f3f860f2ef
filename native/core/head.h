// The output head: logits over V, log-softmax of chosen tokens and its gradient.
//
// The vocabulary is swept in segments, each with its own running maximum, sum and, for the gradient, expectation of the
// output matrix's rows. A chunk of the matrix is read from memory once for the logits and the expectation. The
// segments are put together in their order, so no result depends on the number of threads.
#pragma once

#include <cstdint>
#include <vector>

#include "engine.h"
#include "packed_batch.h"

namespace vg {

// Σ e^(x - max) over a part of the vocabulary, x = logit / τ.
struct PartialSum {
    float max;
    double sum;
};

class Head {
  public:
    static constexpr int kSegments = 32;

    // output [D, V] in ggml's order, of any type gemm() takes.
    Head(const ggml_tensor * output, Engine & engine);

    // Vocabulary rows of a segment; the last ones may be shorter or empty.
    int64_t segment_rows() const { return segment_rows_; }

    struct Sweep {
        std::vector<double> lse;            // [R] log Σ e^x
        std::vector<double> entropy;        // [R] of softmax(x)
        std::vector<double> target_logits;  // [targets] x of each
        std::vector<float> expectation;     // [R, D] E_p[W], only when asked for
        std::vector<PartialSum> segments;   // [R, kSegments]
    };
    struct Wanted {
        bool expectation = false;
        float * logits = nullptr;  // [R, V] receives the logits, not divided by τ
    };
    // hidden [D, R]
    Sweep sweep(const float * hidden, int64_t rows, const std::vector<HeadTarget> & targets, double temperature,
                const Wanted & wanted);

    // d hidden [R, D] from slopes d loss / d log-probability of each target: (slope / τ) (W[token] - E_p[W]).
    std::vector<float> backward(const Sweep & sweep, int64_t rows, const std::vector<HeadTarget> & targets,
                                const std::vector<double> & slopes, double temperature) const;

  private:
    struct Block;
    void sweep_segment(const Block & block, int segment, void * scratch);
    void merge(const Block & block, int64_t row);

    const ggml_tensor * output_;
    Engine & engine_;
    int64_t segment_rows_;
    // [segment, row], kept between sweeps: fresh memory costs page faults.
    std::vector<PartialSum> partial_;
    std::vector<double> weighted_;    // Σ e^(x - max)·x
    std::vector<float> expectation_;  // [segment, row, D] Σ e^(x - max)·W
};

}  // namespace vg
