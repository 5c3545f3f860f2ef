// From tokens to text and words. Whisper's tokens are pieces of bytes: a character may be cut over several.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace vg {

// The text of each token where their bytes are one after another: a character that several tokens make stands in the
// last of them, the others have ''. Bytes that are no character become U+FFFD, and so do those left over at the end.
std::vector<std::string> token_texts(const std::vector<std::string> & bytes);

// [begin, end) in the list of tokens.
struct TokenRange {
    size_t begin = 0;
    size_t end = 0;
};

std::string joined(const std::vector<std::string> & texts, TokenRange range);

// Words and marks of punctuation by themselves, as openai-whisper has them: a word begins with a space, or is one
// character in a language that is written without. They cover all tokens in order.
std::vector<TokenRange> split_words(const std::vector<std::string> & texts, const std::string & language);

struct MergedWord {
    TokenRange tokens;  // with its punctuation
    size_t word = 0;    // in the list of split_words(): the word itself, or the first of marks without a word
};

// Punctuation belongs to the word before it, opening punctuation to the one after.
std::vector<MergedWord> merge_punctuation(const std::vector<std::string> & texts,
                                          const std::vector<TokenRange> & words);

}  // namespace vg
