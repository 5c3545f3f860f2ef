#include "ggml_file_reader.h"

#include <cstring>

#include "error.h"

namespace vg {
namespace {

#if defined(__BYTE_ORDER__)
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "files are read as they are stored; whisper.cpp is compiled without WHISPER_BIG_ENDIAN");
#endif

constexpr uint32_t MAGIC = 0x67676d6c;  // "lmgg" on disk

bool finite16(const uint8_t * data, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        if ((data[2 * i + 1] & 0x7C) == 0x7C) {
            return false;
        }
    }
    return true;
}

bool finite32(const uint8_t * data, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        if ((data[4 * i + 3] & 0x7F) == 0x7F && (data[4 * i + 2] & 0x80)) {
            return false;
        }
    }
    return true;
}

}  // namespace

void GgmlFileReader::fail(const std::string & what) const { throw Error("E_MODEL", file_.path() + ": " + what, hint_); }

bool GgmlFileReader::has_magic() { return file_.size() >= 4 && uint32_t(i32("the magic number")) == MAGIC; }

const uint8_t * GgmlFileReader::bytes(uint64_t n, const std::string & what) {
    if (n > file_.size() - at_) {
        fail("the file is truncated: " + what + " needs " + std::to_string(n) + " bytes at offset " +
             std::to_string(at_) + ", " + std::to_string(file_.size() - at_) + " are left");
    }
    const uint8_t * p = file_.data() + at_;
    at_ += size_t(n);
    return p;
}

std::string GgmlFileReader::text(int32_t length, const std::string & what) {
    return {reinterpret_cast<const char *>(bytes(uint64_t(length), what)), size_t(length)};
}

int32_t GgmlFileReader::i32(const char * what) {
    int32_t value;
    std::memcpy(&value, bytes(4, what), 4);
    return value;
}

int32_t GgmlFileReader::i32(const char * what, int32_t low, int32_t high) {
    const int32_t value = i32(what);
    if (value < low || value > high) {
        fail(std::string(what) + " is " + std::to_string(value) + ", expected " + std::to_string(low) +
             (low == high ? "" : " to " + std::to_string(high)));
    }
    return value;
}

void GgmlFileReader::finite(ggml_type type, uint64_t elements, const std::string & name) {
    const uint64_t n = elements / uint64_t(ggml_blck_size(type)) * ggml_type_size(type);
    const uint8_t * data = bytes(n, "tensor " + name);
    if ((type == GGML_TYPE_F32 && !finite32(data, elements)) || (type == GGML_TYPE_F16 && !finite16(data, elements))) {
        fail("tensor " + name + " holds NaN or infinity");
    }
}

}  // namespace vg
