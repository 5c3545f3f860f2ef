#include "gguf_values.h"

#include <algorithm>

#include "error.h"

namespace vg::gguf {

const char * const damaged_hint =
    "the file is damaged or was not written by a GGUF tool: download it again or convert the model again";

const char * const kind_names[N_KINDS] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                          "bool", "string", "array", "u64", "i64", "f64"};
const uint64_t kind_bytes[N_KINDS] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

std::string Cursor::place() const {
    return total_ == 0 ? what_ : what_ + (" " + number(index_ + 1) + " of " + number(total_));
}
void Cursor::fail(const std::string & problem, const char * hint) const {
    throw Error("E_MODEL", file_.path() + ": " + problem, hint);
}

const uint8_t * Cursor::take(uint64_t bytes) {
    if (bytes > left()) {
        fail("the file ends inside " + place() + " (" + number(file_.size()) + " bytes)",
             "the download was not finished: download it again");
    }
    const uint8_t * p = file_.data() + position_;
    position_ += bytes;
    return p;
}
std::string_view Cursor::take_text(uint64_t limit, const char * what) {
    const auto length = take<uint64_t>();
    if (length > limit || length > left()) {
        fail("the " + (what + (" of " + place())) + " claims " + number(length) + " bytes, at most " +
             number(std::min(limit, left())) + " can be there");
    }
    return {reinterpret_cast<const char *>(take(length)), size_t(length)};
}

namespace {

constexpr uint64_t max_key_bytes = 65535;  // from the format's description
constexpr int max_array_depth = 4;
constexpr uint64_t min_string_bytes = 8, min_array_bytes = 4 + 8;  // as array elements

Kind take_kind(Cursor & in) {
    const auto kind = in.take<uint32_t>();
    if (kind >= N_KINDS)
        in.fail(in.place() + " has the unknown kind " + number(kind));
    return Kind(kind);
}

void take_numbers(Cursor & in, Kind kind, uint64_t count) {
    const uint8_t * p = in.take(count * kind_bytes[kind]);
    if (kind == BOOL && std::any_of(p, p + count, [](uint8_t b) { return b > 1; }))
        in.fail(in.place() + " has a boolean that is neither 0 nor 1");
}

// Passes over the elements of an array, checking that they are all there.
void skip_elements(Cursor & in, Kind kind, uint64_t count, int depth) {
    const uint64_t least = kind == STRING ? min_string_bytes : kind == ARRAY ? min_array_bytes : kind_bytes[kind];
    if (count > in.left() / least) {
        in.fail(in.place() + " claims an array of " + number(count) + " values, more than the file can hold");
    }
    if (kind == STRING) {
        for (uint64_t i = 0; i < count; ++i)
            in.take_text(UINT64_MAX, "text");
    } else if (kind == ARRAY) {
        if (depth >= max_array_depth)
            in.fail(in.place() + " nests arrays too deeply");
        for (uint64_t i = 0; i < count; ++i) {
            const Kind inner = take_kind(in);
            skip_elements(in, inner, in.take<uint64_t>(), depth + 1);
        }
    } else {
        take_numbers(in, kind, count);
    }
}

}  // namespace

Value take_value(Cursor & in) {
    Value value;
    value.key = in.take_text(max_key_bytes, "key");
    if (value.key.empty())
        in.fail(in.place() + " has an empty key");
    value.kind = take_kind(in);
    const uint8_t * begin = in.take(0);
    if (value.kind == STRING) {
        const std::string_view text = in.take_text(UINT64_MAX, "text");
        value.data = reinterpret_cast<const uint8_t *>(text.data());
        value.count = text.size();
    } else if (value.kind == ARRAY) {
        value.element = take_kind(in);
        value.count = in.take<uint64_t>();
        value.data = in.take(0);
        skip_elements(in, value.element, value.count, 1);
    } else {
        value.data = in.take(0);
        take_numbers(in, value.kind, 1);
    }
    value.encoded = {reinterpret_cast<const char *>(begin), size_t(in.take(0) - begin)};
    return value;
}

}  // namespace vg::gguf
