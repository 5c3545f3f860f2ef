// Cutting text into UTF-8 characters where the text may hold bytes that are none.
#pragma once

#include <cstddef>
#include <string_view>

namespace vg {

// Bytes of the character at the front of `text` (not empty); 1 for a byte that begins no valid character.
inline size_t utf8_length(std::string_view text) {
    const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
    const auto more = [&](size_t i) { return i < text.size() && (byte(i) & 0xc0) == 0x80; };
    const unsigned char c = byte(0);
    if (c >= 0xc2 && c <= 0xdf)
        return more(1) ? 2 : 1;
    // Excluded: overlong forms, surrogates, and what lies past U+10FFFF.
    if (c >= 0xe0 && c <= 0xef) {
        const bool good = more(1) && more(2) && !(c == 0xe0 && byte(1) < 0xa0) && !(c == 0xed && byte(1) > 0x9f);
        return good ? 3 : 1;
    }
    if (c >= 0xf0 && c <= 0xf4) {
        const bool good =
            more(1) && more(2) && more(3) && !(c == 0xf0 && byte(1) < 0x90) && !(c == 0xf4 && byte(1) > 0x8f);
        return good ? 4 : 1;
    }
    return 1;
}

}  // namespace vg
