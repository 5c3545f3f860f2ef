// Text from a file, made fit for an error message: printable ASCII in quotation marks, not longer than a line.
#pragma once

#include <string>
#include <string_view>

namespace vg {

inline std::string quoted(std::string_view text) {
    static const char digits[] = "0123456789abcdef";
    std::string out = "\"";
    for (const char c : text.substr(0, 64)) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= 32 && byte < 127 && byte != '"' && byte != '\\') {
            out += c;
        } else {
            out += {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
        }
    }
    return out + (text.size() > 64 ? "…\"" : "\"");
}

}  // namespace vg
