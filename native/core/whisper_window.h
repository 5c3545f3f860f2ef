// How much of its window the encoder is given where the caller asks for a fitted one.
#pragma once

#include <cstddef>

namespace vg {

// Encoder positions of 20 ms for a clip of n samples at 16 kHz; model_context is the model's own window. The result is
// at most that, and equal to it where fitting gains nothing.
int fitted_context(size_t n, int model_context);

// Whether the text tokens decoded so far in a fitted window of a clip show trouble: the last of them repeat themselves,
// or there are more than anybody says in that time. The full window is then heard instead, and the sooner the cheaper:
// left alone, whisper.cpp decodes until it has half a text context of them.
bool rambles(const int * tokens, size_t n, double seconds);

}  // namespace vg
