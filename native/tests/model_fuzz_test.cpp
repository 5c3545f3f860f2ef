// Damaged model files by the thousand, from a fixed seed: each is read, or refused with E_MODEL; nothing else may
// happen. Run it in the sanitizer build to see reads that only happen not to crash.
#include <algorithm>
#include <cstring>
#include <map>
#include <random>

#include "error.h"
#include "gguf_builder.h"
#include "gguf_reader.h"
#include "test.h"
#include "tokenizer.h"

using vg::Error;
using vg::GgufFile;
using vg::Tokenizer;
using namespace vg::test;

namespace {

std::string valid_model() {
    std::vector<std::string> tokens = {"<unk>", "<bos>", "<eos>", "<end_of_turn>", "  ", "\n"};
    std::vector<int32_t> types = {2, 3, 3, 3, 4, 4};
    for (int i = 0; i < 256; ++i) {
        char text[8];
        std::snprintf(text, sizeof text, "<0x%02X>", unsigned(i));
        tokens.push_back(text);
        types.push_back(6);
    }
    for (const char * text : {"a", "b", "ab", "\xe2\x96\x81",
                              "\xe2\x96\x81"
                              "ab",
                              "\xc3\xa9", ""}) {
        tokens.push_back(text);
        types.push_back(1);
    }
    std::vector<float> scores;
    for (size_t i = 0; i < tokens.size(); ++i)
        scores.push_back(-float(i));

    GgufBuilder b;
    b.value("general.alignment", K_U32, 32u).string("general.architecture", "gemma3").value("f", K_F64, 1e-6);
    b.string("tokenizer.ggml.model", "llama").strings("tokenizer.ggml.tokens", tokens);
    b.array("tokenizer.ggml.scores", K_F32, scores).array("tokenizer.ggml.token_type", K_I32, types);
    b.value("tokenizer.ggml.bos_token_id", K_U32, 1u).value("tokenizer.ggml.add_bos_token", K_BOOL, uint8_t(1));
    b.entry("nested", K_ARRAY).put(uint32_t(K_ARRAY)).put(uint64_t(1));
    b.values.put(uint32_t(K_U16)).put(uint64_t(2)).put(uint32_t(5));
    b.tensor("f32", {8, 2}, GGML_TYPE_F32, std::string(64, '\1'))
        .tensor("f16", {4, 3}, GGML_TYPE_F16, std::string(24, '\2'));
    b.tensor("q8", {32, 2}, GGML_TYPE_Q8_0, std::string(68, '\3'))
        .tensor("q4k", {256}, GGML_TYPE_Q4_K, std::string(144, '\4'));
    return b.file();
}

// Calls everything that a loader would call.
void use(const std::string & path) {
    const auto file = GgufFile::open(path);
    for (const char * key : {"general.alignment", "general.architecture", "f", "nested", "tokenizer.ggml.tokens"}) {
        const auto tolerant = [&](auto get) {
            try {
                get();
            } catch (const Error & e) {
                if (e.code != "E_MODEL")
                    throw;
            }
        };
        tolerant([&] { file->get_int(key); });
        tolerant([&] { file->get_float(key); });
        tolerant([&] { file->get_bool(key, false); });
        tolerant([&] { file->get_string(key); });
        tolerant([&] { file->get_strings(key); });
        tolerant([&] { file->get_floats(key); });
        tolerant([&] { file->get_ints(key); });
    }
    std::vector<float> row;
    for (const vg::GgufTensor & t : file->tensors()) {
        CHECK(file->find(t.name) == &t);
        row.resize(size_t(t.ne[0]));
        try {
            for (int64_t i = 0; i < t.nelements() / t.ne[0]; ++i)
                GgufFile::to_f32(t, i, 1, row.data());
        } catch (const Error & e) {
            if (e.code != "E_MODEL")
                throw;
        }
    }
    const Tokenizer tokenizer = Tokenizer::from_gguf(*file);
    for (const char * text : {"ab ab  \n<bos><end_of_turn>\xc3\xa9\xff", "<0x41>", ""}) {
        const auto ids = tokenizer.encode(text, true, true);
        tokenizer.decode(ids.data(), ids.size(), true);
    }
}

// One change, sometimes up to eight, of the kinds that damage or malice makes.
void damage(std::string & file, std::mt19937 & random) {
    static const uint64_t numbers[] = {0,         1,          2,          4,          31,         255,        1u << 16,
                                       1u << 31,  ~0u,        1ull << 32, 1ull << 61, 1ull << 62, 1ull << 63, ~0ull,
                                       ~0ull - 7, 1000000000, ~0ull >> 1, 13,         64,         4096};
    const int changes = 1 + int(random() % 4 == 0 ? random() % 8 : 0);
    for (int i = 0; i < changes && !file.empty(); ++i) {
        // In the first bytes, where the counts are, in the last, where the tensors are, or anywhere.
        const uint32_t where = random() % 4;
        const size_t edge = std::min<size_t>(file.size(), where == 0 ? 200 : 700);
        const size_t at = where > 1    ? random() % file.size()
                          : where == 0 ? random() % edge
                                       : file.size() - 1 - random() % edge;
        // Drawn one by one: the order in which arguments are evaluated is the compiler's choice.
        const uint32_t bits = random(), from = random(), count = random() % 16;
        switch (random() % 8) {
            case 0:
            case 1:
            case 2:
                file[at] = char(file[at] ^ (1 << bits % 8));
                break;
            case 3:
                file[at] = char(bits);
                break;
            case 4:
            case 5: {
                const uint64_t n = numbers[from % std::size(numbers)];
                std::memcpy(&file[at], &n, std::min<size_t>(bits % 2 == 0 ? 4 : 8, file.size() - at));
                break;
            }
            case 6:
                file.erase(at, count);
                break;
            default:
                if (bits % 8 == 0)
                    file.resize(at);
                else
                    file.insert(at, file.substr(from % file.size(), count));
        }
    }
}

}  // namespace

TEST(damaged_models_are_refused_in_words) {
    const std::string whole = valid_model();
    TemporaryFile file(whole);
    use(file.path());  // the undamaged file is read

    std::mt19937 random(20240501);
    std::map<std::string, int> kinds;  // of complaints, without the numbers in them
    int read = 0, refused = 0;
    for (int i = 0; i < 20000; ++i) {
        std::string content = whole;
        damage(content, random);
        file.write(content);
        try {
            use(file.path());
            ++read;
        } catch (const Error & e) {
            ++refused;
            const std::string message = e.what();
            checked();
            bool plain = !message.empty() && message.size() < 500;
            for (const char c : message)
                plain = plain && static_cast<unsigned char>(c) >= 32;
            if (e.code != "E_MODEL" || !plain || e.hint.empty())
                fail(__FILE__, __LINE__, "case " + std::to_string(i) + ": " + e.code + ": " + message);
            std::string kind;
            for (const char c : message.substr(std::min(message.size(), file.path().size())))
                if (c < '0' || c > '9')
                    kind += c;
            ++kinds[kind.substr(0, 24)];
        }
    }
    // A fuzz that no longer reaches the deeper checks is worth nothing.
    CHECK(read > 1000 && refused > 5000);
    CHECK(kinds.size() > 25);
}
