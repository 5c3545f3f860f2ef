// The parts of a GGUF file as they are read one after another: a cursor that cannot pass the end, and metadata values.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "mapped_file.h"

namespace vg::gguf {

extern const char * const damaged_hint;

// The kinds of metadata values, as numbered in the format.
enum Kind : uint32_t { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64, N_KINDS };

extern const char * const kind_names[N_KINDS];
// Bytes of one value in the file; 0 where it varies.
extern const uint64_t kind_bytes[N_KINDS];

// The smallest that a metadata entry can be in the file: key length, key, kind, value. It bounds their count, and with
// it the memory.
constexpr uint64_t min_entry_bytes = 8 + 1 + 4 + 1;

template <typename T> T load(const uint8_t * p) {
    T value;
    std::memcpy(&value, p, sizeof value);
    return value;
}

inline std::string number(uint64_t n) { return std::to_string(n); }

// One metadata entry. It points into the mapped file.
struct Value {
    std::string_view key;
    Kind kind = N_KINDS;
    Kind element = N_KINDS;          // of an array
    uint64_t count = 0;              // elements of an array, bytes of a string
    const uint8_t * data = nullptr;  // first byte of the value, of the string's text, or of the first element
    std::string_view encoded;        // the bytes behind the kind, which another file may take as they are
};

// A place in the mapped file from which nothing past the end can be read.
class Cursor {
  public:
    explicit Cursor(const MappedFile & file) : file_(file) {}

    // What is being read now, for errors: "metadata entry 3 of 17".
    void at(const char * what, uint64_t index, uint64_t total) {
        what_ = what;
        index_ = index;
        total_ = total;
    }
    std::string place() const;
    [[noreturn]] void fail(const std::string & problem, const char * hint = damaged_hint) const;

    uint64_t left() const { return file_.size() - position_; }
    uint64_t position() const { return position_; }
    const uint8_t * take(uint64_t bytes);
    template <typename T> T take() { return load<T>(take(sizeof(T))); }

    // Text behind its length; `what` names it in errors.
    std::string_view take_text(uint64_t limit, const char * what);

  private:
    const MappedFile & file_;
    uint64_t position_ = 0;
    std::string what_ = "the header";
    uint64_t index_ = 0, total_ = 0;
};

// Reads one entry and checks that all of it is there.
Value take_value(Cursor & in);

}  // namespace vg::gguf
