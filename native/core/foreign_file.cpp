#include "foreign_file.h"

#include <algorithm>
#include <cstring>
#include <string_view>

namespace vg {

namespace {

bool starts_with(std::string_view text, std::string_view prefix) { return text.substr(0, prefix.size()) == prefix; }

// The first bytes as lower-case text without leading white space and byte order mark: enough to know text formats.
std::string leading_text(std::string_view bytes) {
    if (starts_with(bytes, "\xef\xbb\xbf"))
        bytes.remove_prefix(3);
    const size_t start = bytes.find_first_not_of(" \t\r\n");
    std::string text(start == std::string_view::npos ? std::string_view() : bytes.substr(start, 64));
    std::transform(text.begin(), text.end(), text.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
    return text;
}

// Safetensors: the length of the JSON header in 8 bytes, then the header.
bool is_safetensors(const uint8_t * data, size_t size) {
    if (size < 10 || data[8] != '{')
        return false;
    uint64_t length = 0;
    std::memcpy(&length, data, 8);
    return length >= 2 && length <= size - 8;
}

}  // namespace

ForeignFile recognise_foreign_file(const uint8_t * data, size_t size) {
    static const std::string get_gguf = "choose the model's GGUF file";
    static const std::string folder =
        "choose the model's GGUF file, or the folder that has config.json, the safetensors and the tokenizer";
    static const std::string save =
        "choose the model's GGUF file, or save the model with transformers' save_pretrained and name that folder";
    static const std::string again = "download it again";

    const std::string_view head(reinterpret_cast<const char *>(data), std::min<size_t>(size, 256));
    const std::string text = leading_text(head);

    if (starts_with(head, "version https://git-lfs")) {
        return {"a Git LFS pointer instead of the model", "fetch the file itself with `git lfs pull`"};
    }
    if (starts_with(text, "<!doctype") || starts_with(text, "<html") || starts_with(text, "<?xml")) {
        return {"a web page instead of the model",
                "download the file itself; a model that asks for a licence needs a login"};
    }
    if (is_safetensors(data, size))
        return {"a safetensors file", folder};
    if (starts_with(head, "PK\x03\x04"))
        return {"a zip archive, perhaps a PyTorch checkpoint", save};
    if (head.size() >= 2 && data[0] == 0x80 && data[1] >= 2 && data[1] <= 5) {
        return {"a Python pickle, perhaps a PyTorch checkpoint", save};
    }
    if (starts_with(head, "lmgg"))
        return {"a ggml file, perhaps a Whisper model", "give a Whisper model with --whisper, and here a GGUF file"};
    if (starts_with(head, "fmgg") || starts_with(head, "tjgg"))
        return {"a model in a format older than GGUF", get_gguf};
    if (starts_with(head, "\x1f\x8b"))
        return {"a gzip archive", "unpack it first"};
    if (starts_with(head, "\x28\xb5\x2f\xfd"))
        return {"a zstd archive", "unpack it first"};
    if (starts_with(head, "\x89HDF\r\n\x1a\n"))
        return {"an HDF5 file", save};
    if (starts_with(text, "{") || starts_with(text, "["))
        return {"JSON", get_gguf};
    if (std::all_of(head.begin(), head.end(), [](char c) { return c == 0; })) {
        return {"zero bytes, as a download that was not finished leaves them", again};
    }
    const bool printable =
        std::all_of(head.begin(), head.end(), [](unsigned char c) { return c >= 32 || (c >= 9 && c <= 13); });
    if (printable)
        return {"text", get_gguf};
    return {"unknown bytes", get_gguf};
}

}  // namespace vg
