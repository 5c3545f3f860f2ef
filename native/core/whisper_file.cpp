#include "whisper_file.h"

#include <array>
#include <map>
#include <string>

#include "error.h"
#include "foreign_file.h"
#include "ggml.h"
#include "ggml_file_reader.h"
#include "quoted.h"

namespace vg {
namespace {

constexpr const char * HINT = "Give a Whisper model in ggml's format, for instance ggml-base.bin.";

// Positions of 20 ms. The engine cuts audio at quiet places of 0.1 s in windows of at least this length.
constexpr int32_t FEWEST_POSITIONS = 50;

struct Header {
    int32_t vocab, audio_ctx, audio_state, audio_head, audio_layer, text_ctx, text_state, text_head, text_layer, mels;
    ggml_type matrices;  // how the large tensors are stored
};

// The types that whisper.cpp's own converter and quantizer write. ggml's function from ftype to type asserts.
bool type_of(int32_t ftype, ggml_type & type) {
    static const std::map<int32_t, ggml_type> types = {
        {GGML_FTYPE_ALL_F32, GGML_TYPE_F32},      {GGML_FTYPE_MOSTLY_F16, GGML_TYPE_F16},
        {GGML_FTYPE_MOSTLY_Q4_0, GGML_TYPE_Q4_0}, {GGML_FTYPE_MOSTLY_Q4_1, GGML_TYPE_Q4_1},
        {GGML_FTYPE_MOSTLY_Q5_0, GGML_TYPE_Q5_0}, {GGML_FTYPE_MOSTLY_Q5_1, GGML_TYPE_Q5_1},
        {GGML_FTYPE_MOSTLY_Q8_0, GGML_TYPE_Q8_0}, {GGML_FTYPE_MOSTLY_Q2_K, GGML_TYPE_Q2_K},
        {GGML_FTYPE_MOSTLY_Q3_K, GGML_TYPE_Q3_K}, {GGML_FTYPE_MOSTLY_Q4_K, GGML_TYPE_Q4_K},
        {GGML_FTYPE_MOSTLY_Q5_K, GGML_TYPE_Q5_K}, {GGML_FTYPE_MOSTLY_Q6_K, GGML_TYPE_Q6_K},
    };
    const auto found = types.find(ftype % GGML_QNT_VERSION_FACTOR);
    if (found == types.end()) {
        return false;
    }
    type = found->second;
    return true;
}

Header read_header(GgmlFileReader & reader) {
    Header h{};
    // whisper.cpp derives the special tokens from the size of the vocabulary: 51864 English, 51865 multilingual, 51866
    // v3.
    h.vocab = reader.i32("n_vocab", 51864, 51866);
    h.audio_ctx = reader.i32("n_audio_ctx", FEWEST_POSITIONS, 1500);
    h.audio_state = reader.i32("n_audio_state", 32, 4096);
    h.audio_head = reader.i32("n_audio_head", 1, 128);
    h.audio_layer = reader.i32("n_audio_layer", 1, 64);
    h.text_ctx = reader.i32("n_text_ctx", 8, 448);
    h.text_state = reader.i32("n_text_state", 32, 4096);
    h.text_head = reader.i32("n_text_head", 1, 128);
    h.text_layer = reader.i32("n_text_layer", 1, 64);
    h.mels = reader.i32("n_mels", 80, 128);
    const int32_t ftype = reader.i32("ftype", 0, 1000 * 1000);
    if (!type_of(ftype, h.matrices)) {
        reader.fail("ftype is " + std::to_string(ftype) +
                    ", expected that of float32, float16, q4_0 to q8_0 or a k-quant");
    }
    if (h.audio_state != h.text_state) {
        reader.fail("n_audio_state is " + std::to_string(h.audio_state) + " and n_text_state is " +
                    std::to_string(h.text_state) + ", expected the same");
    }
    if (h.audio_state % h.audio_head != 0 || h.text_state % h.text_head != 0) {
        reader.fail("n_audio_state " + std::to_string(h.audio_state) + " is not a multiple of the number of heads");
    }
    return h;
}

void read_mel_filters(GgmlFileReader & reader, const Header & header) {
    int32_t mels = reader.i32("filters.n_mel");
    int32_t fft = reader.i32("filters.n_fft");
    if (mels != header.mels || fft != 201) {
        reader.fail("the mel filters are " + std::to_string(mels) + " × " + std::to_string(fft) + ", expected " +
                    std::to_string(header.mels) + " × 201");
    }
    reader.bytes(uint64_t(mels) * uint64_t(fft) * 4, "the mel filters");
}

void read_vocabulary(GgmlFileReader & reader, const Header & header) {
    int32_t words = reader.i32("the number of words", 1000, header.vocab);
    bool space = false;
    for (int32_t i = 0; i < words; i++) {
        int32_t length = reader.i32("the length of a word", 0, 1024);
        space |= reader.text(length, "a word of the vocabulary") == " ";
    }
    if (!space) {  // whisper.cpp forbids it at the beginning of a text
        reader.fail("the vocabulary has no word \" \"");
    }
}

struct Expected {
    std::array<int64_t, 4> ne;
    ggml_type type;
};
using ExpectedTensors = std::map<std::string, Expected>;

// What whisper.cpp's loader makes of the header. It reads as many bytes as these shapes and types have, whatever the
// file says of a tensor, and it allocates them before it reads one.
ExpectedTensors expected_tensors(const Header & header) {
    const int64_t state = header.audio_state;
    ExpectedTensors all;
    const auto vector = [&](const std::string & name, int64_t n) { all[name] = {{n, 1, 1, 1}, GGML_TYPE_F32}; };
    const auto matrix = [&](const std::string & name, int64_t in, int64_t out) {
        all[name + ".weight"] = {{in, out, 1, 1}, header.matrices};
    };
    const auto linear = [&](const std::string & name, int64_t in, int64_t out) {
        matrix(name, in, out);
        vector(name + ".bias", out);
    };
    const auto norm = [&](const std::string & name) {
        vector(name + ".weight", state);
        vector(name + ".bias", state);
    };
    const auto attention = [&](const std::string & name) {
        norm(name + "_ln");
        linear(name + ".query", state, state);
        matrix(name + ".key", state, state);
        linear(name + ".value", state, state);
        linear(name + ".out", state, state);
    };
    const auto mlp = [&](const std::string & block) {
        norm(block + "mlp_ln");
        linear(block + "mlp.0", state, 4 * state);
        linear(block + "mlp.2", 4 * state, state);
    };
    const auto convolution = [&](const std::string & name, int64_t in) {
        all[name + ".weight"] = {{3, in, state, 1}, header.matrices == GGML_TYPE_F32 ? GGML_TYPE_F32 : GGML_TYPE_F16};
        all[name + ".bias"] = {{1, state, 1, 1}, GGML_TYPE_F32};
    };

    all["encoder.positional_embedding"] = {{state, header.audio_ctx, 1, 1}, GGML_TYPE_F32};
    convolution("encoder.conv1", header.mels);
    convolution("encoder.conv2", state);
    norm("encoder.ln_post");
    for (int32_t i = 0; i < header.audio_layer; i++) {
        const std::string block = "encoder.blocks." + std::to_string(i) + ".";
        attention(block + "attn");
        mlp(block);
    }
    all["decoder.positional_embedding"] = {{state, header.text_ctx, 1, 1}, GGML_TYPE_F32};
    matrix("decoder.token_embedding", state, header.vocab);
    norm("decoder.ln");
    for (int32_t i = 0; i < header.text_layer; i++) {
        const std::string block = "decoder.blocks." + std::to_string(i) + ".";
        attention(block + "attn");
        attention(block + "cross_attn");
        mlp(block);
    }
    return all;
}

std::string shape_name(const std::array<int64_t, 4> & ne) {
    size_t dims = 4;
    while (dims > 1 && ne[dims - 1] == 1) {
        dims--;
    }
    std::string name = std::to_string(ne[0]);
    for (size_t i = 1; i < dims; i++) {
        name += " × " + std::to_string(ne[i]);
    }
    return name;
}

// Takes the tensor off `missing`.
void read_tensor(GgmlFileReader & reader, ExpectedTensors & missing) {
    int32_t dims = reader.i32("a tensor's number of dimensions", 1, 4);
    int32_t length = reader.i32("the length of a tensor's name", 1, 128);
    int32_t type = reader.i32("a tensor's type", 0, GGML_TYPE_COUNT - 1);
    std::array<int64_t, 4> ne = {1, 1, 1, 1};
    for (size_t i = 0; i < size_t(dims); i++) {
        ne[i] = reader.i32("a tensor's dimension", 1, 1 << 24);
    }
    const std::string name = reader.text(length, "a tensor's name");
    const auto found = missing.find(name);
    if (found == missing.end()) {
        reader.fail("tensor " + quoted(name) + " is there twice, or none of a model with these layers");
    }
    const Expected & expected = found->second;
    if (ne != expected.ne) {
        reader.fail("tensor " + name + " is " + shape_name(ne) + ", expected " + shape_name(expected.ne));
    }
    if (type != expected.type) {
        const char * stored = ggml_type_name(ggml_type(type));
        reader.fail("tensor " + name + " is stored as " + (stored ? stored : "type " + std::to_string(type)) +
                    ", by the header's ftype it would be " + ggml_type_name(expected.type));
    }
    if (ne[0] % ggml_blck_size(expected.type) != 0) {
        reader.fail("tensor " + name + " has rows of " + std::to_string(ne[0]) + ", which cannot be stored as " +
                    ggml_type_name(expected.type));
    }
    uint64_t elements = 1;
    for (int64_t n : ne) {
        elements *= uint64_t(n);
    }
    if (elements >= uint64_t(1) << 31) {
        reader.fail("tensor " + name + " has 2^31 elements or more");
    }
    reader.finite(expected.type, elements, name);
    missing.erase(found);
}

}  // namespace

void check_whisper_file(const MappedFile & file) {
    GgmlFileReader reader(file, HINT);
    if (!reader.has_magic()) {
        ForeignFile foreign = recognise_foreign_file(file.data(), file.size());
        throw Error("E_MODEL", file.path() + ": expected a Whisper model in ggml's format, found " + foreign.what,
                    HINT);
    }
    Header header = read_header(reader);
    read_mel_filters(reader, header);
    read_vocabulary(reader, header);
    ExpectedTensors missing = expected_tensors(header);
    while (!reader.at_end()) {
        read_tensor(reader, missing);
    }
    if (!missing.empty()) {
        reader.fail("tensor " + missing.begin()->first + " is missing");
    }
}

}  // namespace vg
