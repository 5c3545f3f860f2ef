// Looks through an audio file before it is decoded: which format it is, and whether it ends before its own structure
// does. The decoders read what they can and stop quietly at the first gap, so a truncated file must be noticed here.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "audio_source.h"

namespace vg {

enum class AudioFormat { UNKNOWN, WAV, FLAC, MP3, VORBIS, OPUS };

constexpr int64_t UNKNOWN_FRAMES = -1;

struct AudioContainer {
    AudioFormat format = AudioFormat::UNKNOWN;
    std::string problem;  // empty: complete as far as the structure tells; else what is wrong, fits after "the file"
    int64_t frames = UNKNOWN_FRAMES;  // samples a channel, where the walk has counted them (MP3)
    uint64_t start = 0;               // FLAC, MP3: behind ID3 tags
    uint64_t end = 0;                 // MP3: of the last frame
    bool open_length = false;         // WAV: its writer could not know the length; the rest of the file is audio
    uint64_t audio_bytes = 0;         // WAV: of its data chunk
};

// Throws vg::Error("E_ABORTED").
AudioContainer inspect_audio(const ByteSource & source, const std::atomic<bool> & abort);

// The same question asked of a file's beginning alone; says nothing about what follows.
AudioFormat sniff_audio(const ByteSource & beginning);

}  // namespace vg
