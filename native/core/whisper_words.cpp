#include "whisper_words.h"

#include <algorithm>
#include <string_view>

#include "utf8.h"

namespace vg {

std::string joined(const std::vector<std::string> & texts, TokenRange range) {
    std::string text;
    for (size_t i = range.begin; i < range.end; i++) {
        text += texts[i];
    }
    return text;
}

namespace {

constexpr std::string_view REPLACEMENT = "\xef\xbf\xbd";

// Bytes at the end of `text` that begin a character and may still be completed.
size_t unfinished_tail(std::string_view text) {
    for (size_t n = 1; n <= std::min<size_t>(3, text.size()); n++) {
        const auto lead = static_cast<unsigned char>(text[text.size() - n]);
        if ((lead & 0xc0) == 0x80) {
            continue;
        }
        const size_t whole = lead >= 0xf0 && lead <= 0xf4   ? 4
                             : lead >= 0xe0 && lead <= 0xef ? 3
                             : lead >= 0xc2 && lead <= 0xdf ? 2
                                                            : 1;
        return whole > n ? n : 0;
    }
    return 0;
}

std::string valid_utf8(std::string_view bytes) {
    std::string text;
    while (!bytes.empty()) {
        const size_t n = utf8_length(bytes);
        if (n == 1 && static_cast<unsigned char>(bytes[0]) >= 0x80) {
            text += REPLACEMENT;
        } else {
            text += bytes.substr(0, n);
        }
        bytes.remove_prefix(n);
    }
    return text;
}

// openai-whisper's sets (whisper/timing.py).
constexpr std::string_view OPENING[] = {"\"", "'", "“", "¿", "(", "[", "{", "-"};
constexpr std::string_view CLOSING[] = {"\"", "'", ".",  "。", ",", "，", "!", "！", "?",
                                        "？", ":", "：", "”",  ")", "]",  "}", "、"};
constexpr std::string_view WITHOUT_SPACES[] = {"zh", "ja", "th", "lo", "my", "yue"};

template <size_t N> bool one_of(const std::string_view (&set)[N], std::string_view text) {
    return std::find(set, set + N, text) != set + N;
}

std::string_view trimmed(std::string_view text) {
    while (!text.empty() && text.front() == ' ') {
        text.remove_prefix(1);
    }
    while (!text.empty() && text.back() == ' ') {
        text.remove_suffix(1);
    }
    return text;
}

// ASCII punctuation alone, as Python's string.punctuation.
bool is_punctuation(std::string_view text) {
    return text.size() == 1 && text[0] > 32 && text[0] < 127 && !(text[0] >= '0' && text[0] <= '9') &&
           !(text[0] >= 'A' && text[0] <= 'Z') && !(text[0] >= 'a' && text[0] <= 'z');
}

// Runs of tokens that make whole characters.
std::vector<TokenRange> whole_characters(const std::vector<std::string> & texts) {
    std::vector<TokenRange> runs;
    size_t begin = 0;
    for (size_t i = 0; i < texts.size(); i++) {
        if (!texts[i].empty() || i + 1 == texts.size()) {
            runs.push_back({begin, i + 1});
            begin = i + 1;
        }
    }
    return runs;
}

std::vector<TokenRange> at_spaces(const std::vector<std::string> & texts, const std::vector<TokenRange> & runs) {
    std::vector<TokenRange> words;
    for (const TokenRange & run : runs) {
        const std::string text = joined(texts, run);
        if (words.empty() || text.rfind(' ', 0) == 0 || is_punctuation(trimmed(text))) {
            words.push_back(run);
        } else {
            words.back().end = run.end;
        }
    }
    return words;
}

}  // namespace

std::vector<std::string> token_texts(const std::vector<std::string> & bytes) {
    std::vector<std::string> texts(bytes.size());
    std::string pending;
    for (size_t i = 0; i < bytes.size(); i++) {
        pending += bytes[i];
        const size_t tail = i + 1 == bytes.size() ? 0 : unfinished_tail(pending);
        texts[i] = valid_utf8(std::string_view(pending).substr(0, pending.size() - tail));
        pending.erase(0, pending.size() - tail);
    }
    return texts;
}

std::vector<TokenRange> split_words(const std::vector<std::string> & texts, const std::string & language) {
    const std::vector<TokenRange> runs = whole_characters(texts);
    return one_of(WITHOUT_SPACES, language) ? runs : at_spaces(texts, runs);
}

std::vector<MergedWord> merge_punctuation(const std::vector<std::string> & texts,
                                          const std::vector<TokenRange> & words) {
    // From behind, opening punctuation with a space before it goes to the word after it …
    std::vector<MergedWord> opened;
    for (size_t i = words.size(); i-- > 0;) {
        const std::string text = joined(texts, words[i]);
        if (!opened.empty() && text.rfind(' ', 0) == 0 && one_of(OPENING, trimmed(text))) {
            opened.back().tokens.begin = words[i].begin;
        } else {
            opened.push_back({words[i], i});
        }
    }
    std::reverse(opened.begin(), opened.end());
    // … and closing punctuation to the word before it.
    std::vector<MergedWord> merged;
    for (const MergedWord & word : opened) {
        if (!merged.empty() && one_of(CLOSING, joined(texts, word.tokens)) &&
            texts[merged.back().tokens.end - 1].find_last_of(' ') != texts[merged.back().tokens.end - 1].size() - 1) {
            merged.back().tokens.end = word.tokens.end;
        } else {
            merged.push_back(word);
        }
    }
    return merged;
}

}  // namespace vg
