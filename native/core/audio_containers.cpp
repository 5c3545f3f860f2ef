#include "audio_containers.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace vg {
namespace {

uint32_t little32(const uint8_t * p) {
    return uint32_t(p[0]) | uint32_t(p[1]) << 8 | uint32_t(p[2]) << 16 | uint32_t(p[3]) << 24;
}

bool starts_with(const uint8_t * bytes, size_t size, size_t offset, const char * text) {
    size_t n = std::strlen(text);
    return offset <= size && size - offset >= n && std::memcmp(bytes + offset, text, n) == 0;
}

// --- WAV: RIFF chunks
// -------------------------------------------------------------------------------------------------------

std::string inspect_wav(const uint8_t * bytes, size_t size) {
    bool has_format = false;
    for (size_t at = 12; at + 8 <= size;) {
        uint64_t length = little32(bytes + at + 4);
        uint64_t left = size - at - 8;
        if (starts_with(bytes, size, at, "fmt ") && length >= 16 && left >= 16) {
            has_format = true;
            if (little32(bytes + at + 12) == 0) {
                return "has a sample rate of 0 in its header";
            }
        }
        if (starts_with(bytes, size, at, "data")) {
            if (!has_format) {
                return "has no usable format chunk before its data";
            }
            // Programs that write to a pipe cannot know the length and leave the largest number, or nearly so.
            bool streamed = length >= 0xFFFFFF00 || (length >= 0x7FFFF000 && length <= 0x7FFFFFFF);
            if (length > left && !streamed) {
                return "is truncated: its header promises " + std::to_string(length) + " bytes of audio, " +
                       std::to_string(left) + " are there";
            }
            return length == 0 || left == 0 ? "holds no audio: its data chunk is empty" : "";
        }
        at += size_t(8 + length + (length & 1));
    }
    return has_format ? "is truncated: it ends before its audio begins" : "is truncated: it ends inside its header";
}

// --- Ogg: pages, RFC 3533
// ---------------------------------------------------------------------------------------------------

struct CrcTable {
    uint32_t of[256];

    CrcTable() {
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t r = i << 24;
            for (int bit = 0; bit < 8; bit++) {
                r = (r & 0x80000000U) != 0 ? (r << 1) ^ 0x04c11db7U : r << 1;
            }
            of[i] = r;
        }
    }
};

uint32_t ogg_crc(const uint8_t * page, size_t size) {
    static const CrcTable table;
    uint32_t crc = 0;
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = i >= 22 && i < 26 ? 0 : page[i];  // the checksum's own place counts as zero
        crc = (crc << 8) ^ table.of[((crc >> 24) & 0xFF) ^ byte];
    }
    return crc;
}

// The second packet of a Vorbis stream, https://xiph.org/vorbis/doc/v-comment.html: lengths that reach past the packet
// would lead stb_vorbis out of its memory.
std::string inspect_comments(const std::vector<uint8_t> & packet) {
    const std::string damaged = "is damaged: the lengths in its Vorbis comments do not fit";
    size_t at = 7;  // behind "\x03vorbis"
    auto skip_text = [&] {
        if (packet.size() < at + 4 || little32(&packet[at]) > packet.size() - at - 4) {
            return false;
        }
        at += 4 + little32(&packet[at]);
        return true;
    };
    if (!starts_with(packet.data(), packet.size(), 0, "\x03vorbis") || !skip_text() || packet.size() < at + 4) {
        return damaged;
    }
    uint32_t count = little32(&packet[at]);
    at += 4;
    for (uint32_t i = 0; i < count; i++) {
        if (!skip_text()) {
            return damaged;
        }
    }
    return "";
}

// Every page's checksum is verified: stb_vorbis does not, and a damaged setup header is where it can be led astray.
std::string inspect_ogg(const uint8_t * bytes, size_t size) {
    bool last = false;
    int packets = 0;
    std::vector<uint8_t> comments;
    for (size_t at = 0; at < size;) {
        if (!starts_with(bytes, size, at, "OggS")) {
            return last ? "" : "is damaged at byte " + std::to_string(at);  // what follows the last page is not ours
        }
        size_t left = size - at;
        size_t length = left < 27 ? left + 1 : size_t(27) + bytes[at + 26];
        for (size_t i = 0, n = left < length ? 0 : bytes[at + 26]; i < n; i++) {
            length += bytes[at + 27 + i];
        }
        if (left < length) {
            return "is truncated in the middle of an Ogg page";
        }
        if (ogg_crc(bytes + at, length) != little32(bytes + at + 22)) {
            return "is damaged: the checksum of the Ogg page at byte " + std::to_string(at) + " does not match";
        }
        size_t body = at + 27 + bytes[at + 26];
        for (size_t i = 0, n = bytes[at + 26]; i < n && packets < 2; i++) {
            size_t segment = bytes[at + 27 + i];
            if (packets == 1) {
                comments.insert(comments.end(), bytes + body, bytes + body + segment);
            }
            body += segment;
            packets += segment < 255 ? 1 : 0;  // a packet ends with a segment that is not full
            if (packets == 2) {
                std::string problem = inspect_comments(comments);
                if (!problem.empty()) {
                    return problem;
                }
            }
        }
        last = (bytes[at + 5] & 4) != 0;
        at += length;
    }
    return last ? "" : "is truncated: its last Ogg page is missing";
}

AudioContainer inspect_ogg_codec(const uint8_t * bytes, size_t size) {
    // The first packet names the codec; it begins after the segment table.
    size_t packet = size > 27 ? size_t(27) + bytes[26] : size;
    if (starts_with(bytes, size, packet, "\x01vorbis")) {
        return {AudioFormat::VORBIS, inspect_ogg(bytes, size)};
    }
    if (starts_with(bytes, size, packet, "OpusHead")) {
        return {AudioFormat::UNKNOWN, "is Ogg Opus, which is not supported"};
    }
    return {AudioFormat::UNKNOWN,
            size < 64 ? "is truncated: it ends inside its first Ogg page" : "is Ogg without Vorbis audio"};
}

// --- MP3: a walk over the frame headers, ISO 11172-3 2.4.1.3
// ----------------------------------------------------------------

// Bytes of the frame whose header is at p, 0 when there is none.
size_t mp3_frame(const uint8_t * p) {
    static const int kbps[2][3][15] = {{{0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448},
                                        {0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384},
                                        {0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320}},
                                       {{0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256},
                                        {0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160},
                                        {0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160}}};
    static const int hz[3] = {44100, 48000, 32000};

    int version = (p[1] >> 3) & 3;  // 0: 2.5, 2: 2, 3: 1
    int layer = 4 - ((p[1] >> 1) & 3);
    int rate = p[2] >> 4, frequency = (p[2] >> 2) & 3, padding = (p[2] >> 1) & 1;
    if (p[0] != 0xFF || (p[1] & 0xE0) != 0xE0 || version == 1 || layer == 4 || rate == 0 || rate == 15 ||
        frequency == 3) {
        return 0;
    }
    bool low = version != 3;
    int sample_rate = hz[frequency] >> (version == 3 ? 0 : version == 2 ? 1 : 2);
    int bits = kbps[low ? 1 : 0][layer - 1][rate] * 1000;
    if (layer == 1) {
        return size_t((12 * bits / sample_rate + padding) * 4);
    }
    return size_t((layer == 3 && low ? 72 : 144) * bits / sample_rate + padding);
}

// Where the frames begin: behind an ID3v2 tag.
size_t mp3_start(const uint8_t * bytes, size_t size) {
    if (size < 10 || !starts_with(bytes, size, 0, "ID3")) {
        return 0;
    }
    size_t length =
        size_t(bytes[6] & 127) << 21 | size_t(bytes[7] & 127) << 14 | size_t(bytes[8] & 127) << 7 | (bytes[9] & 127);
    return 10 + length + ((bytes[5] & 16) != 0 ? 10 : 0);
}

// Chance makes a frame header now and then, three in a row at the right distances almost never.
bool looks_like_mp3(const uint8_t * bytes, size_t size) {
    size_t at = mp3_start(bytes, size);
    bool tagged = at > 0;
    int frames = 0;
    while (frames < 3 && at + 4 <= size && mp3_frame(bytes + at) > 0) {
        at += mp3_frame(bytes + at);
        frames++;
    }
    return frames == 3 || tagged || (frames > 0 && at >= size);
}

std::string inspect_mp3(const uint8_t * bytes, size_t size) {
    size_t at = mp3_start(bytes, size);
    if (at >= size) {
        return "is truncated: it ends inside its tag";
    }
    while (at + 4 <= size) {
        size_t length = mp3_frame(bytes + at);
        if (length == 0) {
            bool padding = std::all_of(bytes + at, bytes + size, [](uint8_t byte) { return byte == 0; });
            bool tag = starts_with(bytes, size, at, "TAG") || starts_with(bytes, size, at, "APETAGEX") ||
                       starts_with(bytes, size, at, "ID3") || starts_with(bytes, size, at, "LYRICS");
            return padding || tag ? "" : "is damaged at byte " + std::to_string(at) + ": no MP3 frame begins there";
        }
        if (size - at < length) {
            return "is truncated in the middle of an MP3 frame";
        }
        at += length;
    }
    return "";
}

}  // namespace

AudioContainer inspect_audio(const uint8_t * bytes, size_t size) {
    if (starts_with(bytes, size, 0, "RIFF") && starts_with(bytes, size, 8, "WAVE")) {
        return {AudioFormat::WAV, inspect_wav(bytes, size)};
    }
    if (starts_with(bytes, size, 0, "RIFF") && size < 12) {
        return {AudioFormat::WAV, "is truncated: it ends inside its header"};
    }
    if (starts_with(bytes, size, 0, "fLaC")) {
        // Whether its frames are all there is known after decoding: the header has the number of samples.
        return {AudioFormat::FLAC, size < 42 ? "is truncated: it ends inside its header" : ""};
    }
    if (starts_with(bytes, size, 0, "OggS")) {
        return inspect_ogg_codec(bytes, size);
    }
    if (looks_like_mp3(bytes, size)) {
        return {AudioFormat::MP3, inspect_mp3(bytes, size)};
    }
    return {};
}

}  // namespace vg
