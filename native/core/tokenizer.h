// SentencePiece-style tokenizer read from GGUF metadata (tokenizer.ggml.model = "llama"), as Gemma 3 files carry it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace vg {

class GgufFile;

class Tokenizer {
  public:
    static Tokenizer from_gguf(const GgufFile & file);
    Tokenizer(Tokenizer &&) noexcept;
    ~Tokenizer();

    // parse_special: control tokens written in the text ("<start_of_turn>") become their ids; otherwise they are plain
    // text.
    std::vector<int32_t> encode(std::string_view text, bool add_bos, bool parse_special) const;
    // UTF-8 bytes; control tokens are written only with `special`. A byte that is not valid UTF-8 stays as it is.
    // An embedding may have more rows than the tokenizer has tokens; what lies past them adds no text, here and in
    // piece().
    std::string decode(const int32_t * tokens, size_t n, bool special) const;
    // The bytes that one token adds to the text; empty for control tokens.
    const std::string & piece(int32_t token) const;

    size_t size() const;
    int32_t bos() const;  // -1 when absent, as below
    int32_t eos() const;
    int32_t eot() const;  // <end_of_turn>
    bool add_bos() const;
    bool is_control(int32_t token) const;
    int32_t find(std::string_view text) const;  // id of a token by its exact text, -1

  private:
    struct Impl;
    explicit Tokenizer(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace vg
