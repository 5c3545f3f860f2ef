#include "gguf_reader.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string_view>

#include "error.h"
#include "foreign_file.h"
#include "gguf_values.h"
#include "mapped_file.h"
#include "quoted.h"

namespace vg {

namespace {

using namespace gguf;

constexpr uint64_t max_name_bytes = 64;  // from the format's description
// The smallest that a tensor's description can be: name length, name, n_dims, one dim, type, offset.
constexpr uint64_t min_tensor_bytes = 8 + 1 + 4 + 8 + 4 + 8;
constexpr uint64_t max_reserve = 1 << 16;  // counts are the file's claim until that many entries were read

bool multiply(uint64_t a, uint64_t b, uint64_t & product) {
    if (b != 0 && a > uint64_t(INT64_MAX) / b)
        return false;
    product = a * b;
    return true;
}

// Reads one tensor's description; data stays null and `offset` is relative to the tensor data.
GgufTensor take_tensor(Cursor & in, uint64_t & offset) {
    GgufTensor t;
    t.name = std::string(in.take_text(max_name_bytes, "name"));
    if (t.name.empty())
        in.fail(in.place() + " has an empty name");
    const std::string tensor = "tensor " + quoted(t.name);

    const auto n_dims = in.take<uint32_t>();
    if (n_dims < 1 || n_dims > 4)
        in.fail(tensor + " has " + number(n_dims) + " dimensions, expected 1 to 4");
    t.n_dims = int(n_dims);
    uint64_t elements = 1;
    for (uint32_t i = 0; i < n_dims; ++i) {
        const auto ne = in.take<uint64_t>();
        if (ne < 1 || !multiply(elements, ne, elements)) {
            in.fail("dimension " + number(i) + " of " + tensor + " is " + std::to_string(int64_t(ne)) +
                    ", which no tensor can have");
        }
        t.ne[i] = int64_t(ne);
    }

    const auto type = in.take<uint32_t>();
    // Retired types keep their number and have no size.
    if (type >= GGML_TYPE_COUNT || ggml_blck_size(ggml_type(type)) < 1 || ggml_type_size(ggml_type(type)) < 1) {
        in.fail(tensor + " has the unknown type " + number(type),
                "the file is damaged or newer than this program: try a Q8_0, F16 or Q4_K_M file");
    }
    t.type = ggml_type(type);
    const auto block = uint64_t(ggml_blck_size(t.type));
    if (elements == 0 || uint64_t(t.ne[0]) % block != 0) {
        in.fail("rows of " + tensor + " have " + number(uint64_t(t.ne[0])) + " values, no multiple of " +
                number(block) + " as type " + ggml_type_name(t.type) + " needs");
    }
    uint64_t bytes = 0;
    if (!multiply(elements / block, ggml_type_size(t.type), bytes))
        in.fail(tensor + " is impossibly large");
    t.nbytes = size_t(bytes);
    offset = in.take<uint64_t>();
    return t;
}

}  // namespace

struct GgufFile::Impl {
    MappedFile file;
    std::vector<Value> values;                                 // sorted by key
    std::vector<GgufTensor> tensors;                           // in the order of the file
    std::vector<std::pair<std::string_view, size_t>> by_name;  // sorted

    explicit Impl(const std::string & path) : file(path) {
        Cursor in(file);
        const uint64_t n_tensors = read_header(in);
        read_tensors(in, n_tensors);
    }

    uint64_t read_header(Cursor & in);
    void read_tensors(Cursor & in, uint64_t n);
    void place_tensors(Cursor & in, const std::vector<uint64_t> & offsets);
    const Value * find(std::string_view key) const;

    [[noreturn]] void fail(const std::string & problem, const char * hint) const {
        throw Error("E_MODEL", file.path() + ": " + problem, hint);
    }
    [[noreturn]] void missing(const std::string & key) const {
        fail("the key " + key + " is missing",
             "the file is not complete: convert the model again, or choose another file");
    }
    [[noreturn]] void wrong_kind(const Value & v, const char * expected) const {
        std::string found = kind_names[v.kind];
        if (v.kind == ARRAY)
            found += std::string(" of ") + kind_names[v.element];
        fail("the key " + std::string(v.key) + " is of kind " + found + ", expected " + expected, damaged_hint);
    }
    const Value & need(const std::string & key) const {
        const Value * v = find(key);
        if (v == nullptr)
            missing(key);
        return *v;
    }

    bool is_int(Kind kind) const { return kind <= I32 || kind == U64 || kind == I64; }
    int64_t integer(const Value & v, Kind kind, const uint8_t * p) const;
    int64_t integer(const Value & v) const;
    double real(const Value & v) const;
    bool boolean(const Value & v) const;
    std::string text(const Value & v) const;
};

uint64_t GgufFile::Impl::read_header(Cursor & in) {
    if (file.size() < 4 || std::memcmp(file.data(), "GGUF", 4) != 0) {
        const ForeignFile found = recognise_foreign_file(file.data(), file.size());
        throw Error("E_MODEL", file.path() + ": expected a GGUF model, found " + found.what, found.hint);
    }
    in.take(4);
    const auto version = in.take<uint32_t>();
    if (version != 2 && version != 3) {
        if ((version & 0xffff) == 0 && version != 0)
            fail("a big-endian GGUF file, expected little-endian", "choose a file for this machine");
        fail("GGUF version " + number(version) + ", expected 2 or 3",
             version < 2 ? "convert the model again with a current tool"
                         : "a newer voicegrpo may read it, or choose another file");
    }
    const auto n_tensors = in.take<uint64_t>();
    const auto n_values = in.take<uint64_t>();
    if (n_values > in.left() / min_entry_bytes) {
        in.fail("the header claims " + number(n_values) + " metadata entries, more than the file can hold");
    }
    if (n_tensors > in.left() / min_tensor_bytes) {
        in.fail("the header claims " + number(n_tensors) + " tensors, more than the file can hold");
    }

    values.reserve(size_t(std::min(n_values, max_reserve)));
    for (uint64_t i = 0; i < n_values; ++i) {
        in.at("metadata entry", i, n_values);
        values.push_back(take_value(in));
    }
    std::sort(values.begin(), values.end(), [](const Value & a, const Value & b) { return a.key < b.key; });
    for (size_t i = 1; i < values.size(); ++i) {
        if (values[i].key == values[i - 1].key)
            in.fail("the key " + quoted(values[i].key) + " stands there twice");
    }
    const Value * parts = find("split.count");
    if (parts != nullptr && integer(*parts) > 1) {
        fail("this is one of " + std::to_string(integer(*parts)) + " parts of a model",
             "join the parts with `llama-gguf-split --merge` and give the result");
    }
    return n_tensors;
}

void GgufFile::Impl::read_tensors(Cursor & in, uint64_t n) {
    std::vector<uint64_t> offsets;
    offsets.reserve(size_t(std::min(n, max_reserve)));
    tensors.reserve(size_t(std::min(n, max_reserve)));
    for (uint64_t i = 0; i < n; ++i) {
        in.at("the description of tensor", i, n);
        uint64_t offset = 0;
        tensors.push_back(take_tensor(in, offset));
        offsets.push_back(offset);
    }
    by_name.reserve(tensors.size());
    for (size_t i = 0; i < tensors.size(); ++i)
        by_name.emplace_back(tensors[i].name, i);
    std::sort(by_name.begin(), by_name.end());
    for (size_t i = 1; i < by_name.size(); ++i) {
        if (by_name[i].first == by_name[i - 1].first)
            in.fail("two tensors are named " + quoted(by_name[i].first));
    }
    place_tensors(in, offsets);
}

// Points every tensor at its bytes, after checking that they lie in the file, aligned, and in no other tensor.
void GgufFile::Impl::place_tensors(Cursor & in, const std::vector<uint64_t> & offsets) {
    uint64_t alignment = 32;
    if (const Value * v = find("general.alignment")) {
        const int64_t given = integer(*v);
        // A multiple of 8 by the format, which also makes every type's blocks aligned for the processor.
        if (given < 8 || given > (int64_t{1} << 30) || (given & (given - 1)) != 0) {
            in.fail("general.alignment is " + std::to_string(given) + ", expected a power of two from 8 to 2^30");
        }
        alignment = uint64_t(given);
    }
    if (tensors.empty())
        return;

    const uint64_t start = (in.position() + alignment - 1) / alignment * alignment;
    const uint64_t available = start > file.size() ? 0 : file.size() - start;
    std::vector<std::pair<uint64_t, size_t>> order;
    order.reserve(tensors.size());
    for (size_t i = 0; i < tensors.size(); ++i) {
        GgufTensor & t = tensors[i];
        if (offsets[i] % alignment != 0) {
            in.fail("tensor " + quoted(t.name) + " begins at offset " + number(offsets[i]) +
                    ", no multiple of the alignment " + number(alignment));
        }
        if (offsets[i] > available || t.nbytes > available - offsets[i]) {
            in.fail("tensor " + quoted(t.name) + " needs " + number(t.nbytes) + " bytes at offset " +
                        number(offsets[i]) + ", the file has " + number(available) + " bytes of tensor data",
                    "the file is damaged or its download was not finished: download it again");
        }
        t.data = file.data() + start + offsets[i];
        order.emplace_back(offsets[i], i);
    }
    std::sort(order.begin(), order.end());
    for (size_t i = 1; i < order.size(); ++i) {
        const GgufTensor & before = tensors[order[i - 1].second];
        if (order[i - 1].first + before.nbytes > order[i].first) {
            in.fail("the tensors " + quoted(before.name) + " and " + quoted(tensors[order[i].second].name) +
                    " overlap");
        }
    }
}

const Value * GgufFile::Impl::find(std::string_view key) const {
    const auto it = std::lower_bound(values.begin(), values.end(), key,
                                     [](const Value & v, std::string_view k) { return v.key < k; });
    return it != values.end() && it->key == key ? &*it : nullptr;
}

int64_t GgufFile::Impl::integer(const Value & v, Kind kind, const uint8_t * p) const {
    switch (kind) {
        case U8:
        case BOOL:
            return load<uint8_t>(p);
        case I8:
            return load<int8_t>(p);
        case U16:
            return load<uint16_t>(p);
        case I16:
            return load<int16_t>(p);
        case U32:
            return load<uint32_t>(p);
        case I32:
            return load<int32_t>(p);
        case I64:
            return load<int64_t>(p);
        case U64: {
            const auto value = load<uint64_t>(p);
            if (value > uint64_t(INT64_MAX))
                fail("the key " + std::string(v.key) + " is impossibly large: " + number(value), damaged_hint);
            return int64_t(value);
        }
        default:
            wrong_kind(v, "an integer");
    }
}

int64_t GgufFile::Impl::integer(const Value & v) const {
    if (!is_int(v.kind))
        wrong_kind(v, "an integer");
    return integer(v, v.kind, v.data);
}

double GgufFile::Impl::real(const Value & v) const {
    double value = 0;
    if (v.kind == F32) {
        value = load<float>(v.data);
    } else if (v.kind == F64) {
        value = load<double>(v.data);
    } else if (is_int(v.kind)) {
        value = double(integer(v));
    } else {
        wrong_kind(v, "a number");
    }
    if (!std::isfinite(value))
        fail("the key " + std::string(v.key) + " is not a finite number", damaged_hint);
    return value;
}

bool GgufFile::Impl::boolean(const Value & v) const {
    if (v.kind != BOOL)
        wrong_kind(v, "bool");
    return *v.data != 0;
}

std::string GgufFile::Impl::text(const Value & v) const {
    if (v.kind != STRING)
        wrong_kind(v, "string");
    return {reinterpret_cast<const char *>(v.data), size_t(v.count)};
}

GgufFile::GgufFile(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GgufFile::~GgufFile() = default;

std::shared_ptr<const GgufFile> GgufFile::open(const std::string & path) {
    return std::shared_ptr<const GgufFile>(new GgufFile(std::make_unique<Impl>(path)));
}

const std::string & GgufFile::path() const { return impl_->file.path(); }
bool GgufFile::has(const std::string & key) const { return impl_->find(key) != nullptr; }

int64_t GgufFile::get_int(const std::string & key) const { return impl_->integer(impl_->need(key)); }
int64_t GgufFile::get_int(const std::string & key, int64_t fallback) const {
    const Value * v = impl_->find(key);
    return v == nullptr ? fallback : impl_->integer(*v);
}

double GgufFile::get_float(const std::string & key) const { return impl_->real(impl_->need(key)); }
double GgufFile::get_float(const std::string & key, double fallback) const {
    const Value * v = impl_->find(key);
    return v == nullptr ? fallback : impl_->real(*v);
}

bool GgufFile::get_bool(const std::string & key, bool fallback) const {
    const Value * v = impl_->find(key);
    return v == nullptr ? fallback : impl_->boolean(*v);
}

std::string GgufFile::get_string(const std::string & key) const { return impl_->text(impl_->need(key)); }
std::string GgufFile::get_string(const std::string & key, const std::string & fallback) const {
    const Value * v = impl_->find(key);
    return v == nullptr ? fallback : impl_->text(*v);
}

std::vector<std::string> GgufFile::get_strings(const std::string & key) const {
    const Value & v = impl_->need(key);
    if (v.kind != ARRAY || v.element != STRING)
        impl_->wrong_kind(v, "an array of strings");
    std::vector<std::string> out;
    out.reserve(size_t(v.count));
    const uint8_t * p = v.data;
    for (uint64_t i = 0; i < v.count; ++i) {
        const auto length = size_t(load<uint64_t>(p));  // checked when the file was opened
        out.emplace_back(reinterpret_cast<const char *>(p + 8), length);
        p += 8 + length;
    }
    return out;
}

std::vector<float> GgufFile::get_floats(const std::string & key) const {
    const Value & v = impl_->need(key);
    if (v.kind != ARRAY || (v.element != F32 && v.element != F64))
        impl_->wrong_kind(v, "an array of f32");
    std::vector<float> out(static_cast<size_t>(v.count));
    for (size_t i = 0; i < out.size(); ++i) {
        out[i] = v.element == F32 ? load<float>(v.data + 4 * i) : float(load<double>(v.data + 8 * i));
    }
    return out;
}

std::vector<int64_t> GgufFile::get_ints(const std::string & key) const {
    const Value & v = impl_->need(key);
    if (v.kind != ARRAY || !(impl_->is_int(v.element) || v.element == BOOL))
        impl_->wrong_kind(v, "an array of integers");
    std::vector<int64_t> out(static_cast<size_t>(v.count));
    for (size_t i = 0; i < out.size(); ++i)
        out[i] = impl_->integer(v, v.element, v.data + kind_bytes[v.element] * i);
    return out;
}

std::vector<GgufFile::Entry> GgufFile::entries() const {
    std::vector<Entry> out;
    out.reserve(impl_->values.size());
    for (const Value & v : impl_->values)
        out.push_back({v.key, uint32_t(v.kind), v.encoded});
    return out;
}

const std::vector<GgufTensor> & GgufFile::tensors() const { return impl_->tensors; }

const GgufTensor * GgufFile::find(const std::string & name) const {
    const auto & names = impl_->by_name;
    const auto it = std::lower_bound(names.begin(), names.end(), std::string_view(name),
                                     [](const auto & entry, std::string_view n) { return entry.first < n; });
    return it != names.end() && it->first == name ? &impl_->tensors[it->second] : nullptr;
}

void GgufFile::to_f32(const GgufTensor & tensor, int64_t row, int64_t n, float * out) {
    const int64_t rows = tensor.nelements() / tensor.ne[0];
    if (row < 0 || n < 0 || row > rows || n > rows - row) {
        throw Error("E_INTERNAL", "rows " + std::to_string(row) + " + " + std::to_string(n) + " of tensor " +
                                      quoted(tensor.name) + ", which has " + std::to_string(rows));
    }
    if (n == 0)
        return;
    const uint8_t * data = tensor.data + size_t(row) * ggml_row_size(tensor.type, tensor.ne[0]);
    if (tensor.type == GGML_TYPE_F32) {
        std::memcpy(out, data, size_t(n * tensor.ne[0]) * sizeof(float));
        return;
    }
    const ggml_to_float_t convert = ggml_get_type_traits(tensor.type)->to_float;
    if (convert == nullptr) {
        throw Error("E_MODEL",
                    "tensor " + quoted(tensor.name) + " has type " + ggml_type_name(tensor.type) +
                        ", which holds no weights",
                    "choose another file of this model, for example Q8_0 or F16");
    }
    convert(data, out, n * tensor.ne[0]);
}

}  // namespace vg
