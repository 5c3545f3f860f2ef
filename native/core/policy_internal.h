// Shared by policy.cpp (scoring, gradients) and rollout.cpp (sampling).
#pragma once

#include <chrono>
#include <mutex>

#include "policy.h"

namespace vg {

// Holds the engine for one call and carries its abort flag.
class Policy::Exclusive {
  public:
    Exclusive(Policy & policy, const AbortFlag * abort);
    ~Exclusive();

  private:
    std::lock_guard<std::mutex> lock_;
    Engine & engine_;
};

class Stopwatch {
  public:
    double lap() {
        const auto now = std::chrono::steady_clock::now();
        const double seconds = std::chrono::duration<double>(now - last_).count();
        last_ = now;
        return seconds;
    }

  private:
    std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

}  // namespace vg
