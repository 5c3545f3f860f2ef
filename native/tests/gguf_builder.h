// Writes GGUF files byte by byte, good and bad ones, for the tests of the readers.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include <unistd.h>

namespace vg::test {

// Metadata kinds, as numbered in the format.
enum GgufKind : uint32_t {
    K_U8,
    K_I8,
    K_U16,
    K_I16,
    K_U32,
    K_I32,
    K_F32,
    K_BOOL,
    K_STRING,
    K_ARRAY,
    K_U64,
    K_I64,
    K_F64
};

struct Bytes {
    std::string data;

    template <typename T> Bytes & put(T value) {
        data.append(reinterpret_cast<const char *>(&value), sizeof value);
        return *this;
    }
    Bytes & raw(std::string_view text) {
        data.append(text);
        return *this;
    }
    Bytes & text(std::string_view t) { return put(uint64_t(t.size())).raw(t); }
};

// Collects entries and descriptions; `file()` puts them together. The counts can be made to lie.
struct GgufBuilder {
    Bytes values, tensors, data;
    uint64_t n_values = 0, n_tensors = 0;
    uint32_t version = 3;
    uint64_t alignment = 32;

    Bytes & entry(std::string_view key, uint32_t kind) {
        ++n_values;
        return values.text(key).put(kind);
    }
    template <typename T> GgufBuilder & value(std::string_view key, uint32_t kind, T v) {
        entry(key, kind).put(v);
        return *this;
    }
    GgufBuilder & string(std::string_view key, std::string_view v) {
        entry(key, K_STRING).text(v);
        return *this;
    }
    template <typename T> GgufBuilder & array(std::string_view key, uint32_t kind, const std::vector<T> & v) {
        entry(key, K_ARRAY).put(kind).put(uint64_t(v.size()));
        for (const T x : v)
            values.put(x);
        return *this;
    }
    GgufBuilder & strings(std::string_view key, const std::vector<std::string> & v) {
        entry(key, K_ARRAY).put(uint32_t(K_STRING)).put(uint64_t(v.size()));
        for (const std::string & x : v)
            values.text(x);
        return *this;
    }
    // Only the description.
    GgufBuilder & describe(std::string_view name, const std::vector<uint64_t> & ne, uint32_t type, uint64_t offset) {
        ++n_tensors;
        tensors.text(name).put(uint32_t(ne.size()));
        for (const uint64_t n : ne)
            tensors.put(n);
        tensors.put(type).put(offset);
        return *this;
    }
    // Description and bytes.
    GgufBuilder & tensor(std::string_view name, const std::vector<uint64_t> & ne, uint32_t type,
                         std::string_view bytes) {
        while (data.data.size() % alignment != 0)
            data.put('\0');
        describe(name, ne, type, data.data.size());
        data.raw(bytes);
        return *this;
    }

    std::string file() const {
        Bytes out;
        out.raw("GGUF").put(version).put(n_tensors).put(n_values).raw(values.data).raw(tensors.data);
        while (out.data.size() % alignment != 0)
            out.put('\0');
        return out.raw(data.data).data;
    }
};

// A file that lives as long as this object.
class TemporaryFile {
  public:
    explicit TemporaryFile(std::string_view content) {
        static int count = 0;
        path_ = (std::filesystem::temp_directory_path() /
                 ("voicegrpo-test-" + std::to_string(::getpid()) + "-" + std::to_string(count++)))
                    .string();
        write(content);
    }
    ~TemporaryFile() { std::remove(path_.c_str()); }
    TemporaryFile(const TemporaryFile &) = delete;
    TemporaryFile & operator=(const TemporaryFile &) = delete;

    // Made anew, since some file systems flush to the disk when a file is overwritten.
    void write(std::string_view content) {
        std::remove(path_.c_str());
        std::ofstream out(path_, std::ios::binary | std::ios::trunc);
        out.write(content.data(), std::streamsize(content.size()));
    }
    const std::string & path() const { return path_; }

  private:
    std::string path_;
};

}  // namespace vg::test
