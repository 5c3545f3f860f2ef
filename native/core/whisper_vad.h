// Speech alone: a Silero model finds it, the rest of the audio is cut away, and times are brought back.
#pragma once

#include <atomic>
#include <cstddef>
#include <string>
#include <vector>

#include "whisper_internals.h"
#include "whisper_timeline.h"

namespace vg {

// Speech cut out of audio at 16 kHz and put one after another, as whisper_full does it: every part but the last keeps
// 0.1 s of what follows it, and 0.1 s of silence parts it from the next.
class SpeechAudio final : public Timeline {
  public:
    SpeechAudio(const float * samples, size_t n, const std::vector<SpeechRange> & speech);

    const std::vector<float> & samples() const { return samples_; }

    // Whisper's times are not exact: a segment that reaches less than 0.2 s into a part does not begin or end there.
    TimeRange segment(TimeRange heard) const override;
    // A word lies in one part: the one that holds most of it.
    TimeRange word(TimeRange heard) const override;

  private:
    struct Part {
        size_t at;     // in samples_
        size_t begin;  // in the audio
        size_t length;
    };
    size_t part_of(double at) const;                // the last that begins before `at`, in samples
    double original(size_t part, double at) const;  // s, inside the part
    std::vector<Part> parts_;
    std::vector<float> samples_;
};

// Reads and checks the model at `path`, then finds speech. Throws E_MODEL, E_ABORTED.
std::vector<SpeechRange> detect_speech(const std::string & path, const float * samples, size_t n,
                                       const std::atomic<bool> & abort);

}  // namespace vg
