// Shared by policy.cpp (scoring, gradients) and rollout.cpp (sampling).
#pragma once

#include <mutex>

#include "policy.h"
#include "stopwatch.h"

namespace vg {

// Holds the engine for one call and carries its abort flag.
class Policy::Exclusive {
  public:
    Exclusive(Policy & policy, const AbortFlag * abort);
    ~Exclusive();
    // Of custom nodes, since this call began.
    Engine::WorkSeconds work() const;

  private:
    std::lock_guard<std::mutex> lock_;
    Engine & engine_;
    Engine::WorkSeconds before_;
};

void check_tokens(const int32_t * tokens, int64_t n, int n_vocab, const char * what);

}  // namespace vg
