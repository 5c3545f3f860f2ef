// Audio files to mono samples, a stretch at a time: WAV (with RF64 and W64), MP3, FLAC, Ogg Vorbis, and the packets of
// Ogg Opus, recognised by content, never by name. Memory does not grow with the length of a file, nor with what its
// headers claim.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "audio_ogg.h"
#include "audio_source.h"

namespace vg {

struct AudioInfo {
    std::string format;  // "wav", "mp3", "flac", "vorbis", "opus"
    int sample_rate = 0;
    int channels = 0;
    int64_t frames = -1;  // samples a channel as the file's structure says, -1 where it does not; decoding may differ
    double peak = -1;     // largest absolute sample, -1: not known before decoding
};

// Level of what was read so far, before anything is mixed: of all channels.
struct AudioLevel {
    uint64_t frames = 0;
    double peak = 0;
    double squares = 0;  // sum of the squared samples
};

class AudioDecoder {
  public:
    // Looks through the whole structure, and through the samples of float WAV, where alone no bound of the peak is
    // known. Throws vg::Error("E_AUDIO") for bytes that are empty, not audio, truncated, or whose header lies about
    // them.
    AudioDecoder(std::shared_ptr<const ByteSource> source, const std::atomic<bool> & abort);
    ~AudioDecoder();

    const AudioInfo & info() const { return info_; }
    // Up to `frames` samples at the file's rate, each the mean of its channels; fewer only at the end. Throws
    // vg::Error("E_AUDIO") for NaN and infinities, and at the end of a file that holds less than it promised. Not for
    // Opus.
    std::vector<float> read(size_t frames, const std::atomic<bool> & abort);
    const AudioLevel & level() const { return level_; }

    // Opus only, whose decoder is not part of the core.
    OpusPackets read_packets(uint64_t samples);
    const OpusHead & opus_head() const;

    class Frames;  // one decoder

  private:
    std::unique_ptr<Frames> open_frames() const;
    void measure(const std::atomic<bool> & abort);

    std::shared_ptr<const ByteSource> source_;
    AudioContainer container_;
    OggFile ogg_;
    AudioInfo info_;
    std::unique_ptr<Frames> frames_;
    std::unique_ptr<OpusReader> opus_;
    AudioLevel level_;
    std::vector<float> chunk_;
};

}  // namespace vg
