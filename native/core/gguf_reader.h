// Read-only view of a GGUF file (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3,
// little-endian). Everything is checked before it is used: a hostile file gives vg::Error("E_MODEL"), never a crash or
// an unbounded allocation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ggml.h"

namespace vg {

struct GgufTensor {
    std::string name;
    ggml_type type = GGML_TYPE_F32;
    int n_dims = 0;
    int64_t ne[4] = {1, 1, 1, 1};    // ggml order: ne[0] is contiguous
    const uint8_t * data = nullptr;  // into the mapped file
    size_t nbytes = 0;

    int64_t nelements() const { return ne[0] * ne[1] * ne[2] * ne[3]; }
};

class GgufFile {
  public:
    static std::shared_ptr<const GgufFile> open(const std::string & path);
    ~GgufFile();

    const std::string & path() const;
    bool has(const std::string & key) const;

    // The first form throws E_MODEL naming key and file when the key is absent or of another kind.
    int64_t get_int(const std::string & key) const;
    int64_t get_int(const std::string & key, int64_t fallback) const;
    double get_float(const std::string & key) const;
    double get_float(const std::string & key, double fallback) const;
    bool get_bool(const std::string & key, bool fallback) const;
    std::string get_string(const std::string & key) const;
    std::string get_string(const std::string & key, const std::string & fallback) const;

    std::vector<std::string> get_strings(const std::string & key) const;
    std::vector<float> get_floats(const std::string & key) const;
    std::vector<int64_t> get_ints(const std::string & key) const;  // also arrays of bool

    // A metadata value as another file may take it: the number of its kind in the format, and the bytes behind that.
    struct Entry {
        std::string_view key;
        uint32_t kind = 0;
        std::string_view bytes;
    };
    std::vector<Entry> entries() const;  // sorted by key; they point into the file

    const std::vector<GgufTensor> & tensors() const;
    const GgufTensor * find(const std::string & name) const;  // nullptr when absent

    // Dequantizes rows [row, row + n) of a tensor into out[n * ne[0]].
    static void to_f32(const GgufTensor & tensor, int64_t row, int64_t n, float * out);

  private:
    struct Impl;
    explicit GgufFile(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace vg
