// Checks a ggml Whisper file from the first byte to the last before whisper.cpp sees it.
#pragma once

#include "mapped_file.h"

namespace vg {

// Throws vg::Error("E_MODEL") naming what is wrong and where.
void check_whisper_file(const MappedFile & file);

}  // namespace vg
