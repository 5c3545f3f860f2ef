// When each token was said: dynamic time warping over the cross-attention, as openai-whisper does it
// (whisper/timing.py).
#pragma once

#include <vector>

#include "whisper_internals.h"

namespace vg {

// attention: rows of the prompt (`skip` of them), then of a token before the text (<|notimestamps|>), of n text tokens,
// and of the end. positions: encoder positions that hold audio.
// Returns n + 1 times in positions: where each text token begins, and where the last one ends; never falling.
std::vector<int> align_tokens(const CrossAttention & attention, int skip, int positions);

}  // namespace vg
