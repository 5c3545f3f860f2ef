// Reads a file of whisper.cpp's own format, the one before GGUF: numbers and bytes one after another, each checked
// against the end of the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "ggml.h"
#include "mapped_file.h"

namespace vg {

class GgmlFileReader {
  public:
    // hint: what every error of this file says to do next.
    GgmlFileReader(const MappedFile & file, const char * hint) : file_(file), hint_(hint) {}

    [[noreturn]] void fail(const std::string & what) const;  // E_MODEL, the file's path before it

    bool has_magic();  // reads it; false for a file that is too short
    const uint8_t * bytes(uint64_t n, const std::string & what);
    std::string text(int32_t length, const std::string & what);
    int32_t i32(const char * what);
    int32_t i32(const char * what, int32_t low, int32_t high);
    // A tensor's data; one of 16 or 32 bits must be finite.
    void finite(ggml_type type, uint64_t elements, const std::string & name);

    bool at_end() const { return at_ == file_.size(); }

  private:
    const MappedFile & file_;
    const char * hint_;
    size_t at_ = 0;
};

}  // namespace vg
