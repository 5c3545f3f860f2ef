// Audio files to samples: WAV, MP3, FLAC and Ogg Vorbis, recognised by content, never by name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace vg {

struct DecodedAudio {
    std::vector<float> samples;  // [frames × channels], interleaved, in [-1, 1]
    int sample_rate = 0;
    int channels = 0;
    std::string format;  // "wav", "mp3", "flac", "vorbis"
};

// Throws vg::Error("E_AUDIO") for bytes that are empty, not audio, truncated, or whose header lies about them.
DecodedAudio decode_audio(const uint8_t * bytes, size_t size);

}  // namespace vg
