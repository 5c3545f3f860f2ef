// From the times of what whisper.cpp heard to the times of the whole audio, in seconds.
#pragma once

#include <algorithm>

namespace vg {

struct TimeRange {
    double start = 0;
    double end = 0;
};

class Timeline {
  public:
    virtual ~Timeline() = default;
    virtual TimeRange segment(TimeRange heard) const = 0;
    virtual TimeRange word(TimeRange heard) const = 0;
};

// Everything was heard.
class WholeTimeline final : public Timeline {
  public:
    explicit WholeTimeline(double seconds) : seconds_(seconds) {}
    TimeRange segment(TimeRange heard) const override {
        return {std::min(heard.start, seconds_), std::min(heard.end, seconds_)};
    }
    TimeRange word(TimeRange heard) const override { return segment(heard); }

  private:
    double seconds_;
};

}  // namespace vg
