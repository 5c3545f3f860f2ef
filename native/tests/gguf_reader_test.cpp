// The GGUF reader: every kind of value and weight read right, and hostile files refused in one sentence.
#include "gguf_reader.h"

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include <sys/stat.h>

#include "error.h"
#include "gguf_builder.h"
#include "test.h"

using vg::Error;
using vg::GgufFile;
using namespace vg::test;

namespace {

constexpr uint64_t HUGE64 = std::numeric_limits<uint64_t>::max();

std::shared_ptr<const GgufFile> read(const std::string & content) {
    return GgufFile::open(TemporaryFile(content).path());
}

std::string floats(const std::vector<float> & v) { return {reinterpret_cast<const char *>(v.data()), v.size() * 4}; }

// What opening the file (and then `use`) complains about: "message | hint"; empty when it does not.
std::string complaint(const std::string & content, const std::function<void(const GgufFile &)> & use = {}) {
    const TemporaryFile file(content);
    try {
        const auto gguf = GgufFile::open(file.path());
        if (use)
            use(*gguf);
        return "";
    } catch (const Error & e) {
        const std::string message = e.what();
        const bool one_line = message.find('\n') == std::string::npos && message.size() < 400;
        const bool names_file = message.compare(0, file.path().size(), file.path()) == 0;
        return (e.code == "E_MODEL" && one_line && names_file && !e.hint.empty() ? "" : "BAD FORM: ") + message +
               " | " + e.hint;
    }
}

// Fails unless the complaint has the expected words.
void refuses(const char * what, const std::string & content, const char * words,
             const std::function<void(const GgufFile &)> & use = {}) {
    checked();
    const std::string found = complaint(content, use);
    if (found.find(words) == std::string::npos || found.find("BAD FORM") != std::string::npos)
        fail(__FILE__, __LINE__,
             std::string(what) + ": expected an error with \"" + words + "\", got \"" + found + "\"");
}

GgufBuilder small() {
    GgufBuilder b;
    b.string("general.architecture", "gemma3").value("n", K_U32, uint32_t(7));
    b.tensor("a", {4, 2}, GGML_TYPE_F32, floats({1, 2, 3, 4, 5, 6, 7, 8}));
    b.tensor("b", {8}, GGML_TYPE_F16, std::string(16, '\0'));
    return b;
}

// 0 or 1 keys or tensors, given as the bytes after the header.
std::string with_counts(uint64_t n_tensors, uint64_t n_values, const Bytes & rest = {}, uint32_t version = 3) {
    return Bytes().raw("GGUF").put(version).put(n_tensors).put(n_values).raw(rest.data).data;
}

}  // namespace

TEST(gguf_reads_every_kind_of_value) {
    GgufBuilder b;
    b.value("u8", K_U8, uint8_t(200)).value("i8", K_I8, int8_t(-7)).value("u16", K_U16, uint16_t(60000));
    b.value("i16", K_I16, int16_t(-30000)).value("u32", K_U32, uint32_t(4000000000u)).value("i32", K_I32, int32_t(-5));
    b.value("f32", K_F32, 1.5f)
        .value("yes", K_BOOL, uint8_t(1))
        .value("no", K_BOOL, uint8_t(0))
        .string("text", "h\xc3\xa9");
    b.value("u64", K_U64, uint64_t(1) << 60).value("i64", K_I64, -(int64_t(1) << 60)).value("f64", K_F64, 0.1);
    b.strings("strings", {"a", "", "ccc"})
        .array<float>("floats", K_F32, {1, -2})
        .array<double>("doubles", K_F64, {0.5});
    b.array<int32_t>("ints", K_I32, {-1, 2, 3})
        .array<uint8_t>("bools", K_BOOL, {1, 0})
        .array<uint64_t>("empty", K_U64, {});
    b.entry("nested", K_ARRAY).put(uint32_t(K_ARRAY)).put(uint64_t(2));
    b.values.put(uint32_t(K_U8)).put(uint64_t(3)).raw("abc").put(uint32_t(K_STRING)).put(uint64_t(1)).text("x");
    b.value("last", K_U32, uint32_t(99));

    const auto f = read(b.file());
    CHECK(f->get_int("u8") == 200);
    CHECK(f->get_int("i8") == -7);
    CHECK(f->get_int("u16") == 60000);
    CHECK(f->get_int("i16") == -30000);
    CHECK(f->get_int("u32") == 4000000000);
    CHECK(f->get_int("i32") == -5);
    CHECK(f->get_int("u64") == int64_t(1) << 60);
    CHECK(f->get_int("i64") == -(int64_t(1) << 60));
    CHECK(f->get_float("f32") == 1.5);
    CHECK(f->get_float("f64") == 0.1);
    CHECK(f->get_float("u8") == 200);
    CHECK(f->get_bool("yes", false));
    CHECK(!f->get_bool("no", true));
    CHECK(f->get_string("text") == "h\xc3\xa9");
    CHECK(f->get_strings("strings") == (std::vector<std::string>{"a", "", "ccc"}));
    CHECK(f->get_floats("floats") == (std::vector<float>{1, -2}));
    CHECK(f->get_floats("doubles") == (std::vector<float>{0.5}));
    CHECK(f->get_ints("ints") == (std::vector<int64_t>{-1, 2, 3}));
    CHECK(f->get_ints("bools") == (std::vector<int64_t>{1, 0}));
    CHECK(f->get_ints("empty").empty());
    CHECK(f->get_int("last") == 99);  // so the nested array was passed over rightly
    CHECK(f->has("nested"));
    CHECK(!f->has("none"));
    CHECK(f->get_int("none", 3) == 3);
    CHECK(f->get_float("none", 0.25) == 0.25);
    CHECK(f->get_bool("none", true));
    CHECK(f->get_string("none", "default") == "default");
    CHECK(f->tensors().empty());
}

TEST(gguf_reads_version_2_and_other_alignments) {
    for (const uint64_t alignment : {8, 64, 4096}) {
        GgufBuilder b;
        b.version = 2;
        b.alignment = alignment;
        b.value("general.alignment", K_U32, uint32_t(alignment));
        b.tensor("one", {3}, GGML_TYPE_F32, floats({1, 2, 3}))
            .tensor("two", {2, 1, 2}, GGML_TYPE_F32, floats({4, 5, 6, 7}));
        const auto f = read(b.file());
        const vg::GgufTensor * two = f->find("two");
        CHECK(two != nullptr && f->find("three") == nullptr);
        if (two == nullptr)
            return;
        CHECK(two->n_dims == 3 && two->ne[0] == 2 && two->ne[1] == 1 && two->ne[2] == 2 && two->ne[3] == 1);
        CHECK(two->nbytes == 16 && two->nelements() == 4);
        float out[2];
        GgufFile::to_f32(*two, 1, 1, out);
        CHECK(out[0] == 6 && out[1] == 7);
    }
}

// Quantized by ggml and read back: the error stays within what the type's bits allow, in any cut of rows.
TEST(gguf_dequantizes_every_type_of_weight) {
    const int64_t width = 512, rows = 6;
    std::vector<float> source(size_t(width * rows));
    for (size_t i = 0; i < source.size(); ++i)
        source[i] = float(std::sin(0.37 * double(i)) * (1 + double(i % 7)) / 7);
    const struct {
        ggml_type type;
        double error;  // root mean square over that of the values
    } cases[] = {{GGML_TYPE_F32, 0},     {GGML_TYPE_F16, 1e-3},    {GGML_TYPE_BF16, 5e-3},  {GGML_TYPE_Q4_0, 0.12},
                 {GGML_TYPE_Q4_1, 0.12}, {GGML_TYPE_Q5_0, 0.06},   {GGML_TYPE_Q5_1, 0.06},  {GGML_TYPE_Q8_0, 0.01},
                 {GGML_TYPE_Q2_K, 0.35}, {GGML_TYPE_Q3_K, 0.2},    {GGML_TYPE_Q4_K, 0.1},   {GGML_TYPE_Q5_K, 0.05},
                 {GGML_TYPE_Q6_K, 0.03}, {GGML_TYPE_IQ4_NL, 0.12}, {GGML_TYPE_IQ4_XS, 0.12}};
    for (const auto & c : cases) {
        std::string bytes(ggml_row_size(c.type, width) * size_t(rows), '\0');
        ggml_quantize_chunk(c.type, source.data(), bytes.data(), 0, rows, width, nullptr);
        const auto f = read(GgufBuilder().tensor("w", {uint64_t(width), uint64_t(rows)}, c.type, bytes).file());
        const vg::GgufTensor & w = f->tensors().at(0);
        CHECK(w.type == c.type && w.nbytes == bytes.size());
        std::vector<float> whole(source.size()), parts(source.size());
        GgufFile::to_f32(w, 0, rows, whole.data());
        GgufFile::to_f32(w, 0, 0, nullptr);
        GgufFile::to_f32(w, 0, 1, parts.data());
        GgufFile::to_f32(w, 1, rows - 1, parts.data() + width);
        CHECK(whole == parts);
        double error = 0, size = 0;
        for (size_t i = 0; i < source.size(); ++i) {
            error += std::pow(double(whole[i]) - double(source[i]), 2);
            size += std::pow(double(source[i]), 2);
        }
        const double relative = std::sqrt(error / size);
        if (!(relative <= c.error))
            fail(__FILE__, __LINE__,
                 std::string(ggml_type_name(c.type)) + ": relative error " + std::to_string(relative));
    }
    ggml_quantize_free();
    CHECK(std::size(cases) == 15);
}

TEST(gguf_refuses_wrong_rows_and_types_without_weights) {
    const auto f = read(GgufBuilder().tensor("i", {4, 2}, GGML_TYPE_I32, std::string(32, '\0')).file());
    const vg::GgufTensor & t = f->tensors().at(0);
    float out[8];
    CHECK_ERROR(GgufFile::to_f32(t, 0, 2, out), "E_MODEL");
    CHECK_ERROR(GgufFile::to_f32(t, 0, 3, out), "E_INTERNAL");
    CHECK_ERROR(GgufFile::to_f32(t, -1, 1, out), "E_INTERNAL");
    CHECK_ERROR(GgufFile::to_f32(t, 1, INT64_MAX, out), "E_INTERNAL");
}

TEST(gguf_refuses_what_is_no_file) {
    const std::string folder = std::filesystem::temp_directory_path().string();
    CHECK_ERROR(GgufFile::open(folder), "E_MODEL");
    CHECK_ERROR(GgufFile::open(folder + "/voicegrpo-no-such-file"), "E_MODEL");
    CHECK_ERROR(GgufFile::open(TemporaryFile("x").path() + "/model.gguf"), "E_MODEL");
    CHECK_ERROR(GgufFile::open(""), "E_MODEL");
    CHECK_ERROR(GgufFile::open("/dev/null"), "E_MODEL");
    CHECK_ERROR(GgufFile::open(std::string("a\0b", 3)), "E_MODEL");
    CHECK_ERROR(GgufFile::open(std::string(10000, 'a')), "E_MODEL");
    const TemporaryFile pipe("");
    std::remove(pipe.path().c_str());
    CHECK(::mkfifo(pipe.path().c_str(), 0600) == 0);
    CHECK_ERROR(GgufFile::open(pipe.path()), "E_MODEL");  // and does not wait for a writer
    const TemporaryFile secret(small().file());
    CHECK(::chmod(secret.path().c_str(), 0) == 0);
    if (::geteuid() != 0)  // root may read everything
        CHECK_ERROR(GgufFile::open(secret.path()), "E_MODEL");
}

TEST(gguf_says_what_another_file_is) {
    refuses("empty", "", "the file is empty");
    refuses("lfs", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git lfs pull");
    refuses("html", " \r\n<!DOCTYPE html><html></html>", "a web page");
    refuses("html", "<HTML>", "a web page");
    refuses("safetensors", Bytes().put(uint64_t(10)).raw("{\"a\":null}").data, "a safetensors file");
    refuses("zip", "PK\x03\x04" + std::string(40, 'x'), "a zip archive");
    refuses("pickle", "\x80\x02}q" + std::string(40, 'x'), "a Python pickle");
    refuses("ggml", Bytes().put(uint32_t(0x67676d6c)).raw(std::string(40, 'x')).data, "--whisper");
    refuses("ggjt", Bytes().put(uint32_t(0x67676a74)).raw(std::string(40, 'x')).data, "older than GGUF");
    refuses("gzip", "\x1f\x8b\x08" + std::string(40, 'x'), "a gzip archive");
    refuses("hdf5", "\x89HDF\r\n\x1a\n" + std::string(40, 'x'), "an HDF5 file");
    refuses("json", "{\"model_type\": \"gemma3\"}", "found JSON");
    refuses("zeros", std::string(5000, '\0'), "not finished");
    refuses("text", "hello", "found text");
    refuses("noise", "\x01\x02\x03\x04\x05", "unknown bytes");
    refuses("three bytes", "GGU", "found text");
}

TEST(gguf_refuses_hostile_headers) {
    refuses("magic alone", "GGUF", "the file ends inside the header");
    refuses("half a header", Bytes().raw("GGUF").put(uint32_t(3)).put(uint32_t(0)).data,
            "the file ends inside the header");
    refuses("version 0", with_counts(0, 0, {}, 0), "GGUF version 0");
    refuses("version 1", with_counts(0, 0, {}, 1), "GGUF version 1");
    refuses("version 4", with_counts(0, 0, {}, 4), "GGUF version 4");
    refuses("big-endian", with_counts(0, 0, {}, 0x03000000), "big-endian");
    refuses("a billion tensors", with_counts(1000000000, 0, Bytes().raw(std::string(4000, '\0'))),
            "claims 1000000000 tensors");
    refuses("a billion keys", with_counts(0, 1000000000, Bytes().raw(std::string(4000, '\0'))),
            "claims 1000000000 metadata");
    refuses("2^64 - 1 tensors", with_counts(HUGE64, 0), "tensors, more than the file can hold");
    refuses("2^64 - 1 keys", with_counts(0, HUGE64), "metadata entries, more than the file can hold");
    refuses("2^63 keys", with_counts(0, uint64_t(1) << 63), "metadata entries, more than the file can hold");
}

TEST(gguf_refuses_hostile_metadata) {
    const auto one = [](const Bytes & entry) { return with_counts(0, 1, Bytes(entry).raw(std::string(64, '\0'))); };
    refuses("key past the end", one(Bytes().put(uint64_t(60000)).raw("k")),
            "key of metadata entry 1 of 1 claims 60000");
    refuses("key of 2^64 - 1", one(Bytes().put(HUGE64).raw("k")), "claims 18446744073709551615 bytes");
    refuses("key too long",
            with_counts(0, 1, Bytes().text(std::string(65536, 'k')).put(uint32_t(K_U8)).put(uint8_t(1))),
            "at most 65535");
    refuses("empty key", one(Bytes().text("").put(uint32_t(K_U8)).put(uint8_t(1))), "empty key");
    refuses("kind 13", one(Bytes().text("k").put(uint32_t(13))), "unknown kind 13");
    refuses("kind 2^32 - 1", one(Bytes().text("k").put(~uint32_t(0))), "unknown kind");
    refuses("text past the end", one(Bytes().text("k").put(uint32_t(K_STRING)).put(uint64_t(1000)).raw("x")),
            "claims 1000 bytes");
    refuses("text of 2^64 - 8", one(Bytes().text("k").put(uint32_t(K_STRING)).put(HUGE64 - 7).raw("x")),
            "claims 1844674407370955");
    refuses("bool 2", one(Bytes().text("k").put(uint32_t(K_BOOL)).put(uint8_t(2))), "neither 0 nor 1");
    refuses("bools 0, 1, 9", GgufBuilder().array<uint8_t>("k", K_BOOL, {0, 1, 9}).file(), "neither 0 nor 1");
    refuses("value cut off", with_counts(0, 1, Bytes().text("keyed").put(uint32_t(K_U64)).put(uint16_t(0))),
            "ends inside metadata entry 1 of 1");
    const auto array = [&](uint32_t kind, uint64_t n) {
        return one(Bytes().text("k").put(uint32_t(K_ARRAY)).put(kind).put(n));
    };
    refuses("array of 2^64 - 1 bytes", array(K_U8, HUGE64), "more than the file can hold");
    refuses("array of 2^61 u64: overflows", array(K_U64, uint64_t(1) << 61), "more than the file can hold");
    refuses("array of a billion strings", array(K_STRING, 1000000000), "more than the file can hold");
    refuses("array of a billion arrays", array(K_ARRAY, 1000000000), "more than the file can hold");
    refuses("array of kind 77", array(77, 1), "unknown kind 77");
    refuses("string past the end of an array",
            one(Bytes()
                    .text("k")
                    .put(uint32_t(K_ARRAY))
                    .put(uint32_t(K_STRING))
                    .put(uint64_t(2))
                    .text("a")
                    .put(uint64_t(999))),
            "claims 999 bytes");
    Bytes deep;
    deep.text("k").put(uint32_t(K_ARRAY));
    for (int i = 0; i < 100000; ++i)
        deep.put(uint32_t(K_ARRAY)).put(uint64_t(1));
    refuses("arrays in arrays, 100,000 deep", one(deep), "too deeply");
    refuses("the same key twice",
            GgufBuilder().value("k", K_U8, uint8_t(1)).value("j", K_U8, uint8_t(1)).string("k", "x").file(),
            "\"k\" stands there twice");
    refuses("part of a split model", GgufBuilder().value("split.count", K_U16, uint16_t(3)).file(),
            "llama-gguf-split --merge");
    refuses("keys that are no text",
            GgufBuilder().value("\x1b[31m\n", K_U8, uint8_t(1)).value("\x1b[31m\n", K_U8, uint8_t(1)).file(),
            "\"\\x1b[31m\\x0a\"");
}

TEST(gguf_refuses_values_of_another_kind) {
    const std::string content = GgufBuilder()
                                    .string("text", "x")
                                    .value("big", K_U64, HUGE64)
                                    .value("nan", K_F32, NAN)
                                    .value("inf", K_F64, HUGE_VAL)
                                    .value("int", K_I32, int32_t(4))
                                    .value("float", K_F32, 1.0f)
                                    .strings("list", {"a"})
                                    .array<float>("floats", K_F32, {1})
                                    .file();
    const auto refuses_use = [&](const char * words, const std::function<void(const GgufFile &)> & use) {
        refuses(words, content, words, use);
    };
    refuses_use("the key none is missing", [](const GgufFile & f) { f.get_int("none"); });
    refuses_use("the key none is missing", [](const GgufFile & f) { f.get_strings("none"); });
    refuses_use("text is of kind string, expected an integer", [](const GgufFile & f) { f.get_int("text"); });
    refuses_use("text is of kind string, expected an integer", [](const GgufFile & f) { f.get_int("text", 5); });
    refuses_use("float is of kind f32, expected an integer", [](const GgufFile & f) { f.get_int("float"); });
    refuses_use("big is impossibly large", [](const GgufFile & f) { f.get_int("big"); });
    refuses_use("nan is not a finite number", [](const GgufFile & f) { f.get_float("nan"); });
    refuses_use("inf is not a finite number", [](const GgufFile & f) { f.get_float("inf", 0); });
    refuses_use("list is of kind array of string, expected a number", [](const GgufFile & f) { f.get_float("list"); });
    refuses_use("int is of kind i32, expected bool", [](const GgufFile & f) { f.get_bool("int", true); });
    refuses_use("int is of kind i32, expected string", [](const GgufFile & f) { f.get_string("int"); });
    refuses_use("text is of kind string, expected an array of strings",
                [](const GgufFile & f) { f.get_strings("text"); });
    refuses_use("list is of kind array of string, expected an array of f32",
                [](const GgufFile & f) { f.get_floats("list"); });
    refuses_use("floats is of kind array of f32, expected an array of integers",
                [](const GgufFile & f) { f.get_ints("floats"); });
}

TEST(gguf_refuses_hostile_tensors) {
    const auto one = [](const std::vector<uint64_t> & ne, uint32_t type, uint64_t offset, size_t bytes) {
        GgufBuilder b;
        b.describe("w", ne, type, offset).data.raw(std::string(bytes, '\0'));
        return b.file();
    };
    refuses("past the end", one({4}, GGML_TYPE_F32, 32, 32), "needs 16 bytes at offset 32, the file has 32 bytes");
    refuses("one byte short", one({4}, GGML_TYPE_F32, 0, 15), "needs 16 bytes at offset 0, the file has 15 bytes");
    refuses("no data at all", one({4}, GGML_TYPE_F32, 0, 0), "needs 16 bytes");
    refuses("offset 2^64 - 32", one({4}, GGML_TYPE_F32, HUGE64 - 31, 64), "the file has 64 bytes");
    refuses("offset not aligned", one({4}, GGML_TYPE_F32, 4, 64), "no multiple of the alignment 32");
    refuses("0 dimensions", one({}, GGML_TYPE_F32, 0, 64), "has 0 dimensions");
    refuses("5 dimensions", one({1, 1, 1, 1, 1}, GGML_TYPE_F32, 0, 64), "has 5 dimensions");
    refuses("a zero dimension", one({4, 0}, GGML_TYPE_F32, 0, 64), "dimension 1 of tensor \"w\" is 0");
    refuses("a negative dimension", one({4, HUGE64}, GGML_TYPE_F32, 0, 64), "dimension 1 of tensor \"w\" is -1");
    refuses("product over 2^64", one({uint64_t(1) << 33, uint64_t(1) << 33}, GGML_TYPE_F32, 0, 64),
            "which no tensor can have");
    refuses("bytes over 2^63", one({uint64_t(1) << 62}, GGML_TYPE_F32, 0, 64), "impossibly large");
    refuses("a trillion weights", one({uint64_t(1) << 20, uint64_t(1) << 20}, GGML_TYPE_Q4_K, 0, 64),
            "the file has 64 bytes");
    refuses("rows that cut a block", one({33}, GGML_TYPE_Q8_0, 0, 64), "no multiple of 32 as type q8_0 needs");
    for (const uint32_t type : {4u, 5u, 31u, 32u, 33u, 36u, 37u, 38u, uint32_t(GGML_TYPE_COUNT), 1000u, ~0u})
        refuses("unknown type", one({32}, type, 0, 64), "unknown type");
    refuses("empty name", GgufBuilder().describe("", {1}, 0, 0).file(), "empty name");
    refuses("long name", GgufBuilder().describe(std::string(65, 'n'), {1}, 0, 0).file(), "claims 65 bytes, at most 64");
    refuses("name past the end", with_counts(1, 0, Bytes().put(HUGE64).raw(std::string(60, 'n'))),
            "name of the description of tensor 1 of 1");
    refuses("twice the same name",
            GgufBuilder().tensor("w", {8}, 0, std::string(32, '\0')).tensor("w", {8}, 0, std::string(32, '\0')).file(),
            "two tensors are named \"w\"");
    GgufBuilder overlap;
    overlap.describe("v", {16}, 0, 0).describe("w", {16}, 0, 32).data.raw(std::string(128, '\0'));
    refuses("overlap", overlap.file(), "\"v\" and \"w\" overlap");
    GgufBuilder same;
    same.describe("v", {1}, 0, 0).describe("w", {1}, 0, 0).data.raw(std::string(32, '\0'));
    refuses("the same place", same.file(), "overlap");
    for (const uint32_t alignment : {0u, 1u, 4u, 7u, 48u, 1u << 31, ~0u}) {
        GgufBuilder b;
        b.value("general.alignment", K_U32, alignment).tensor("w", {4}, 0, std::string(16, '\0'));
        refuses("alignment", b.file(), "general.alignment is ");
    }
    refuses("alignment of 2^30",
            GgufBuilder().value("general.alignment", K_U32, 1u << 30).tensor("w", {4}, 0, std::string(16, '\0')).file(),
            "the file has 0 bytes");
    refuses("alignment as text", GgufBuilder().string("general.alignment", "32").file(), "expected an integer");
}

TEST(gguf_refuses_every_truncation) {
    const std::string whole = small().file();
    CHECK(complaint(whole).empty());
    for (size_t size = 0; size < whole.size(); ++size)
        refuses("truncated", whole.substr(0, size), " | ");
}
