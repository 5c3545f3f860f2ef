// Looks through an audio file before it is decoded: which format it is, and whether it ends before its own structure
// does. The decoders read what they can and stop quietly at the first gap, so a truncated file must be noticed here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace vg {

enum class AudioFormat { UNKNOWN, WAV, FLAC, MP3, VORBIS };

struct AudioContainer {
    AudioFormat format = AudioFormat::UNKNOWN;
    std::string problem;  // empty: complete as far as the structure tells; else what is wrong, fits after "the file"
};

AudioContainer inspect_audio(const uint8_t * bytes, size_t size);

}  // namespace vg
