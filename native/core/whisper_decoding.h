// One pass of whisper_full over a stretch of audio, with what is told about it: segments as they become final, words,
// tries that were thrown away.
#pragma once

#include <atomic>
#include <exception>
#include <string>
#include <vector>

#include "whisper.h"
#include "whisper_engine.h"
#include "whisper_internals.h"
#include "whisper_timeline.h"
#include "whisper_tries.h"

namespace vg {

struct DecodingRequest {
    whisper_context * context = nullptr;
    whisper_state * state = nullptr;         // fresh, with the stretch's mel spectrogram in it
    CrossAttentionReader * words = nullptr;  // null: no word timestamps
    const WhisperOptions * options = nullptr;
    std::string language;   // ISO code
    int audio_context = 0;  // encoder positions, 0: the model's window
    int beam_size = 1;
    // Give up at the first try that whisper.cpp would throw away.
    bool one_try = false;
    double begin = 0;    // s: where the stretch lies in what is heard
    double seconds = 0;  // its length
    const Timeline * timeline = nullptr;
    SegmentCallback on_segment;
    const std::atomic<bool> * abort = nullptr;
};

struct DecodingOutcome {
    bool gave_up = false;  // one_try alone; the last of `fallbacks` says where, without a true reason
    std::vector<WhisperFallback> fallbacks;
};

// Throws E_ABORTED, E_NUMERIC, E_LIMIT, E_INTERNAL. A state that whisper.cpp freed itself is set to null in `state`.
DecodingOutcome decode(DecodingRequest & request);

}  // namespace vg
