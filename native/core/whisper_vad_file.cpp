#include "whisper_vad_file.h"

#include <array>
#include <cstdint>
#include <set>
#include <string>

#include "error.h"
#include "foreign_file.h"
#include "ggml.h"
#include "ggml_file_reader.h"
#include "quoted.h"

namespace vg {
namespace {

struct Expected {
    const char * name;
    ggml_type type;
    std::array<int32_t, 3> shape;
};

constexpr Expected TENSORS[] = {
    {"_model.stft.forward_basis_buffer", GGML_TYPE_F16, {256, 1, 258}},
    {"_model.encoder.0.reparam_conv.weight", GGML_TYPE_F16, {3, 129, 128}},
    {"_model.encoder.0.reparam_conv.bias", GGML_TYPE_F32, {128, 1, 1}},
    {"_model.encoder.1.reparam_conv.weight", GGML_TYPE_F16, {3, 128, 64}},
    {"_model.encoder.1.reparam_conv.bias", GGML_TYPE_F32, {64, 1, 1}},
    {"_model.encoder.2.reparam_conv.weight", GGML_TYPE_F16, {3, 64, 64}},
    {"_model.encoder.2.reparam_conv.bias", GGML_TYPE_F32, {64, 1, 1}},
    {"_model.encoder.3.reparam_conv.weight", GGML_TYPE_F16, {3, 64, 128}},
    {"_model.encoder.3.reparam_conv.bias", GGML_TYPE_F32, {128, 1, 1}},
    {"_model.decoder.rnn.weight_ih", GGML_TYPE_F32, {128, 512, 1}},
    {"_model.decoder.rnn.weight_hh", GGML_TYPE_F32, {128, 512, 1}},
    {"_model.decoder.rnn.bias_ih", GGML_TYPE_F32, {512, 1, 1}},
    {"_model.decoder.rnn.bias_hh", GGML_TYPE_F32, {512, 1, 1}},
    {"_model.decoder.decoder.2.weight", GGML_TYPE_F16, {128, 1, 1}},
    {"_model.decoder.decoder.2.bias", GGML_TYPE_F32, {1, 1, 1}},
};

void read_header(GgmlFileReader & reader) {
    const int32_t length = reader.i32("the length of the model's type", 1, 64);
    const std::string type = reader.text(length, "the model's type");
    if (type != "silero-16k") {
        reader.fail("the model's type is " + quoted(type) + ", expected \"silero-16k\"");
    }
    for (const char * part : {"the major version", "the minor version", "the patch version"}) {
        reader.i32(part, 0, 1 << 20);
    }
    const auto exactly = [&](const char * what, int32_t value) { reader.i32(what, value, value); };
    exactly("n_window", 512);
    exactly("n_context", 64);
    exactly("n_encoder_layers", 4);
    constexpr int32_t channels[5] = {129, 128, 64, 64, 128};
    for (int i = 0; i < 4; i++) {
        exactly("an encoder layer's channels in", channels[i]);
        exactly("an encoder layer's channels out", channels[i + 1]);
        exactly("an encoder layer's kernel size", 3);
    }
    exactly("lstm_input_size", 128);
    exactly("lstm_hidden_size", 128);
    exactly("final_conv_in", 128);
    exactly("final_conv_out", 1);
}

const Expected & expected_tensor(const GgmlFileReader & reader, const std::string & name) {
    for (const Expected & tensor : TENSORS) {
        if (name == tensor.name) {
            return tensor;
        }
    }
    reader.fail("tensor " + quoted(name) + " does not belong to a Silero model");
}

void read_tensor(GgmlFileReader & reader, std::set<std::string> & seen) {
    const int32_t dims = reader.i32("a tensor's number of dimensions", 0, 3);
    const int32_t length = reader.i32("the length of a tensor's name", 1, 128);
    const int32_t type = reader.i32("a tensor's type", 0, GGML_TYPE_COUNT - 1);
    std::array<int32_t, 3> shape = {1, 1, 1};
    for (int i = 0; i < dims; i++) {
        shape[size_t(i)] = reader.i32("a tensor's dimension", 1, 1 << 16);
    }
    const std::string name = reader.text(length, "a tensor's name");
    const Expected & expected = expected_tensor(reader, name);
    if (type != expected.type || shape != expected.shape) {
        reader.fail("tensor " + name + " has another type or shape than a Silero model's");
    }
    if (!seen.insert(name).second) {
        reader.fail("tensor " + name + " is there twice");
    }
    reader.finite(expected.type, uint64_t(shape[0]) * uint64_t(shape[1]) * uint64_t(shape[2]), name);
}

}  // namespace

void check_vad_file(const MappedFile & file) {
    GgmlFileReader reader(file, VAD_HINT);
    if (!reader.has_magic()) {
        throw Error("E_MODEL",
                    file.path() + ": expected a Silero model in ggml's format, found " +
                        recognise_foreign_file(file.data(), file.size()).what,
                    VAD_HINT);
    }
    read_header(reader);
    std::set<std::string> seen;
    while (!reader.at_end()) {
        read_tensor(reader, seen);
    }
    if (seen.size() != std::size(TENSORS)) {
        reader.fail("the file holds " + std::to_string(seen.size()) + " tensors, a Silero model has " +
                    std::to_string(std::size(TENSORS)));
    }
}

}  // namespace vg
