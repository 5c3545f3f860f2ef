// Mono at any rate to 16 kHz, piece by piece. A polyphase windowed-sinc filter with a Kaiser window: each output sample
// is one product of the filter's phase with the input around it. Position and phase are whole numbers, so the result
// does not depend, to the last bit, on how the input is cut.
//
// Flat to 90% of the lower of the two Nyquist frequencies, below -110 dB from that frequency on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace vg {

constexpr uint32_t AUDIO_RATE = 16000;  // Hz, Whisper's

// The filter for one rate, immutable and shared.
struct ResamplerFilter {
    uint64_t up = 1, down = 1;  // output n stands at input position n · down / up
    size_t phases = 1;          // rows of `taps`; fewer than `up` where that is large: then two rows are interpolated
    size_t half = 0;            // input samples on either side of the position
    size_t width = 0;           // floats of a row: 2 · half, padded with zeros to a multiple of 16
    std::vector<float> taps;    // [phases + 1, width]

    // Making one takes up to half a second; the last few are kept. From any thread.
    static std::shared_ptr<const ResamplerFilter> of(uint32_t rate);
};

class Resampler {
  public:
    // rate: Hz, 1000 to 192,000. Costs nothing: the filter comes with the first samples.
    explicit Resampler(uint32_t rate) : rate_(rate) {}

    // Appends to `out` what can be said with the input so far.
    void push(const float * samples, size_t n, std::vector<float> & out);
    // The rest: `out` has had round(input · 16,000 / rate) samples in all then, at least one if there was input.
    void finish(std::vector<float> & out);

    // Null before the first samples, and at 16 kHz.
    const std::shared_ptr<const ResamplerFilter> & filter() const { return filter_; }

  private:
    void produce(uint64_t limit, std::vector<float> & out);

    uint32_t rate_;
    std::shared_ptr<const ResamplerFilter> filter_;
    std::vector<float> history_;  // the input from begin_ on, with zeros before the first sample
    int64_t begin_ = 0;           // position of history_[0]
    uint64_t received_ = 0;
    uint64_t next_ = 0;  // output
};

}  // namespace vg
