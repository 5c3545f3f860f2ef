// Checks a Silero model in ggml's format from the first byte to the last before whisper.cpp sees it.
#pragma once

#include "mapped_file.h"

namespace vg {

constexpr const char * VAD_HINT =
    "Give a Silero model in ggml's format: ggml-silero-v5.1.2.bin of ggml-org/whisper-vad on the hub.";

// whisper.cpp's graph is written for the one shape that Silero 5 and 6 have; nothing else passes. Throws
// vg::Error("E_MODEL") naming what is wrong and where.
void check_vad_file(const MappedFile & file);

}  // namespace vg
