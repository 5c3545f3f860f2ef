#include "whisper_file.h"

#include <cmath>
#include <cstring>
#include <set>
#include <string>

#include "error.h"
#include "foreign_file.h"
#include "ggml.h"

namespace vg {
namespace {

constexpr uint32_t MAGIC = 0x67676d6c;  // "lmgg" on disk
constexpr const char * HINT = "Give a Whisper model in ggml's format, for instance ggml-base.bin.";

class Reader {
  public:
    explicit Reader(const MappedFile & file) : file_(file) {}

    [[noreturn]] void fail(const std::string & what) const { throw Error("E_MODEL", file_.path() + ": " + what, HINT); }

    const uint8_t * bytes(uint64_t n, const char * what) {
        if (n > file_.size() - at_) {
            fail(std::string("the file is truncated: ") + what + " needs " + std::to_string(n) + " bytes at offset " +
                 std::to_string(at_) + ", " + std::to_string(file_.size() - at_) + " are left");
        }
        const uint8_t * p = file_.data() + at_;
        at_ += size_t(n);
        return p;
    }
    int32_t i32(const char * what) {
        int32_t value;
        std::memcpy(&value, bytes(4, what), 4);
        return value;
    }
    int32_t i32(const char * what, int32_t low, int32_t high) {
        int32_t value = i32(what);
        if (value < low || value > high) {
            fail(std::string(what) + " is " + std::to_string(value) + ", expected " + std::to_string(low) + " to " +
                 std::to_string(high));
        }
        return value;
    }
    bool at_end() const { return at_ == file_.size(); }

  private:
    const MappedFile & file_;
    size_t at_ = 0;
};

struct Header {
    int32_t vocab, audio_ctx, audio_state, audio_head, audio_layer, text_ctx, text_state, text_head, text_layer, mels,
        ftype;
};

Header read_header(Reader & reader) {
    Header h{};
    // whisper.cpp derives the special tokens from the size of the vocabulary: 51864 English, 51865 multilingual, 51866
    // v3.
    h.vocab = reader.i32("n_vocab", 51864, 51866);
    h.audio_ctx = reader.i32("n_audio_ctx", 1, 1500);
    h.audio_state = reader.i32("n_audio_state", 32, 4096);
    h.audio_head = reader.i32("n_audio_head", 1, 128);
    h.audio_layer = reader.i32("n_audio_layer", 1, 64);
    h.text_ctx = reader.i32("n_text_ctx", 8, 448);
    h.text_state = reader.i32("n_text_state", 32, 4096);
    h.text_head = reader.i32("n_text_head", 1, 128);
    h.text_layer = reader.i32("n_text_layer", 1, 64);
    h.mels = reader.i32("n_mels", 80, 128);
    h.ftype = reader.i32("ftype", 0, 1000 * 1000);
    if (h.audio_state != h.text_state) {
        reader.fail("n_audio_state is " + std::to_string(h.audio_state) + " and n_text_state is " +
                    std::to_string(h.text_state) + ", expected the same");
    }
    if (h.audio_state % h.audio_head != 0 || h.text_state % h.text_head != 0) {
        reader.fail("n_audio_state " + std::to_string(h.audio_state) + " is not a multiple of the number of heads");
    }
    return h;
}

void read_mel_filters(Reader & reader, const Header & header) {
    int32_t mels = reader.i32("filters.n_mel");
    int32_t fft = reader.i32("filters.n_fft");
    if (mels != header.mels || fft != 201) {
        reader.fail("the mel filters are " + std::to_string(mels) + " × " + std::to_string(fft) + ", expected " +
                    std::to_string(header.mels) + " × 201");
    }
    reader.bytes(uint64_t(mels) * uint64_t(fft) * 4, "the mel filters");
}

void read_vocabulary(Reader & reader, const Header & header) {
    int32_t words = reader.i32("the number of words", 1000, header.vocab);
    for (int32_t i = 0; i < words; i++) {
        int32_t length = reader.i32("the length of a word", 0, 1024);
        reader.bytes(uint64_t(length), "a word of the vocabulary");
    }
}

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

void read_tensor(Reader & reader, const Header & header, std::set<std::string> & seen) {
    int32_t dims = reader.i32("a tensor's number of dimensions", 1, 4);
    int32_t length = reader.i32("the length of a tensor's name", 1, 128);
    int32_t type = reader.i32("a tensor's type", 0, GGML_TYPE_COUNT - 1);
    int64_t ne[4] = {1, 1, 1, 1};
    for (int i = 0; i < dims; i++) {
        ne[i] = reader.i32("a tensor's dimension", 1, 1 << 24);
    }
    std::string name(reinterpret_cast<const char *>(reader.bytes(uint64_t(length), "a tensor's name")), size_t(length));
    if (!seen.insert(name).second) {
        reader.fail("tensor " + name + " is there twice");
    }
    // These three bound what whisper.cpp allocates from the header: all other tensors are smaller multiples of their
    // sizes.
    struct Expected {
        const char * name;
        int64_t ne1;
    };
    for (const Expected & e : {Expected{"decoder.token_embedding.weight", header.vocab},
                               Expected{"encoder.positional_embedding", header.audio_ctx},
                               Expected{"decoder.positional_embedding", header.text_ctx}}) {
        if (name == e.name && (ne[0] != header.text_state || ne[1] != e.ne1)) {
            reader.fail("tensor " + name + " is " + std::to_string(ne[0]) + " × " + std::to_string(ne[1]) +
                        ", expected " + std::to_string(header.text_state) + " × " + std::to_string(e.ne1));
        }
    }
    auto kind = ggml_type(type);
    int64_t block = ggml_blck_size(kind);
    if (block <= 0 || ggml_type_size(kind) == 0 || ne[0] % block != 0) {
        reader.fail("tensor " + name + " has a type that its shape cannot have (type " + std::to_string(type) + ")");
    }
    uint64_t elements = 1;
    for (int64_t n : ne) {
        elements *= uint64_t(n);
        if (elements > (uint64_t(1) << 31)) {
            reader.fail("tensor " + name + " has more than 2^31 elements");
        }
    }
    uint64_t nbytes = elements / uint64_t(block) * ggml_type_size(kind);
    const uint8_t * data = reader.bytes(nbytes, ("tensor " + name).c_str());
    bool finite = kind == GGML_TYPE_F32   ? finite32(data, elements)
                  : kind == GGML_TYPE_F16 ? finite16(data, elements)
                                          : true;
    if (!finite) {
        reader.fail("tensor " + name + " holds NaN or infinity");
    }
}

}  // namespace

void check_whisper_file(const MappedFile & file) {
    Reader reader(file);
    uint32_t magic = file.size() >= 4 ? uint32_t(reader.i32("the magic number")) : 0;
    if (magic != MAGIC) {
        ForeignFile foreign = recognise_foreign_file(file.data(), file.size());
        throw Error("E_MODEL", file.path() + ": expected a Whisper model in ggml's format, found " + foreign.what,
                    HINT);
    }
    Header header = read_header(reader);
    read_mel_filters(reader, header);
    read_vocabulary(reader, header);
    std::set<std::string> seen;
    while (!reader.at_end()) {
        read_tensor(reader, header, seen);
    }
    // 15 tensors an encoder layer, 24 a decoder layer, 11 besides.
    size_t expected = size_t(11 + 15 * header.audio_layer + 24 * header.text_layer);
    if (seen.size() != expected) {
        reader.fail("the file holds " + std::to_string(seen.size()) + " tensors, a model with " +
                    std::to_string(header.audio_layer) + " + " + std::to_string(header.text_layer) + " layers has " +
                    std::to_string(expected));
    }
}

}  // namespace vg
