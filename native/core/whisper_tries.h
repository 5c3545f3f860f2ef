// Which tries at a window whisper.cpp throws away, and why: read from the lines of its debug log, the one place where
// it says so. The lines are those of the version that cmake/carrier.cmake demands.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace vg {

enum class Failure { none, repetition, timestamps, log_prob };

struct FailedTry {
    int64_t start = 0;  // of the window, in frames of 10 ms
    int number = 0;     // of the try at this window, from 0
    Failure reason = Failure::none;
};

class WhisperTries {
  public:
    // frames: of the whole audio, 10 ms each; no window begins behind them.
    explicit WhisperTries(int64_t frames) : frames_(frames) {}

    // One message of the log, as the log callback gets it. Messages also quote the vocabulary, which is the model
    // file's to say: a line counts only where it begins as whisper.cpp begins it.
    void read(std::string_view line);

    int64_t window_start() const { return window_start_; }  // frames of 10 ms
    int current() const { return number_; }                 // the try that runs, from 0
    const std::vector<FailedTry> & failed() const { return failed_; }

  private:
    static constexpr int MAX_DECODERS = 8;

    int64_t frames_;
    int64_t window_start_ = 0;
    int number_ = -1;
    int best_ = 0;
    Failure decoders_[MAX_DECODERS] = {};
    std::vector<FailedTry> failed_;
};

}  // namespace vg
