#include "audio_containers.h"

#include <algorithm>
#include <cstring>

#include "audio_bytes.h"
#include "audio_ogg.h"

namespace vg {
namespace {

// --- WAV: RIFF chunks, and those of its 64-bit relatives RF64 (EBU Tech 3306) and W64 (Sony)
// ---------------------------------------------------------------------------------------------

struct WavLayout {
    bool wide = false;  // W64: sizes of 64 bits that count the chunk's header, and GUIDs as names
    bool big = false;   // RIFX
    uint64_t header = 8;
    uint64_t first = 12;
};

// All of W64's names end like this, and begin with those of RIFF in small letters.
const uint8_t W64_RIFF[16] = {'r',  'i',  'f',  'f',  0x2E, 0x91, 0xCF, 0x11,
                              0xA5, 0xD6, 0x28, 0xDB, 0x04, 0xC1, 0x00, 0x00};

bool is_w64(ByteWindow & window) {
    const uint8_t * bytes = window.at(0, 16);
    return bytes != nullptr && std::memcmp(bytes, W64_RIFF, 16) == 0;
}

bool is_wav(ByteWindow & window) {
    for (const char * name : {"RIFF", "RIFX", "RF64"}) {
        if (window.starts_with(0, name)) {
            return window.size() < 12 || window.starts_with(8, "WAVE");
        }
    }
    return is_w64(window);
}

// Programs that write to a pipe cannot know the length and leave the largest number, or nearly so.
bool is_open_length(uint64_t length, bool wide) {
    if (length >= (wide ? uint64_t(1) << 62 : 0xFFFFFF00)) {
        return true;
    }
    return length >= 0x7FFFF000 && length <= 0x7FFFFFFF;
}

void inspect_wav(ByteWindow & window, AudioContainer & container, const std::atomic<bool> & abort) {
    WavLayout layout;
    if (is_w64(window)) {
        layout = {true, false, 24, 40};
    }
    layout.big = window.starts_with(0, "RIFX");
    auto number = [&](const uint8_t * p) { return layout.big ? big32(p) : little32(p); };

    const uint64_t size = window.size();
    bool has_format = false;
    uint64_t long_length = 0;  // RF64: of the data chunk, whose own field is too narrow
    for (uint64_t at = layout.first; at < size && size - at >= layout.header;) {
        check_abort(abort);
        const uint8_t * header = window.at(at, size_t(layout.header));
        if (header == nullptr) {
            break;
        }
        uint64_t length = layout.wide ? little64(header + 16) : number(header + 4);
        if (layout.wide) {
            if (length < layout.header) {
                container.problem = "is damaged: a chunk at byte " + std::to_string(at) + " is shorter than its header";
                return;
            }
            length -= layout.header;
        }
        const uint64_t body = at + layout.header, left = size - body;
        auto is = [&](const char * name) { return window.starts_with(at, name); };
        if (is("ds64") && left >= 28) {
            const uint8_t * sizes = window.at(body, 28);
            long_length = sizes == nullptr ? 0 : little64(sizes + 8);
        } else if (is("fmt ") && length >= 16 && left >= 16) {
            const uint8_t * format = window.at(body, 16);
            has_format = format != nullptr;
            if (has_format && number(format + 4) == 0) {
                container.problem = "has a sample rate of 0 in its header";
                return;
            }
        } else if (is("data")) {
            if (!has_format) {
                container.problem = "has no usable format chunk before its data";
                return;
            }
            const bool wide = layout.wide || long_length > 0;
            if (!layout.wide && long_length > 0 && length == 0xFFFFFFFF) {
                length = long_length;
            }
            container.open_length = is_open_length(length, wide) && length > left;
            if (length > left && !container.open_length) {
                container.problem = "is truncated: its header promises " + std::to_string(length) +
                                    " bytes of audio, " + std::to_string(left) + " are there";
            } else if (length == 0 || left == 0) {
                container.problem = "holds no audio: its data chunk is empty";
            }
            container.audio_bytes = std::min(length, left);
            return;
        }
        const uint64_t align = layout.wide ? 8 : 2;
        if (length > left) {
            break;
        }
        at = body + (length + align - 1) / align * align;
    }
    container.problem =
        has_format ? "is truncated: it ends before its audio begins" : "is truncated: it ends inside its header";
}

// --- MP3: a walk over the frame headers, ISO 11172-3 2.4.1.3
// ----------------------------------------------------------------

struct Mp3Frame {
    size_t bytes = 0;  // 0: no frame
    int sample_rate = 0, channels = 0;
    size_t samples = 0;  // a channel
};

// The frame whose header is at p.
Mp3Frame mp3_frame(const uint8_t * p) {
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
        return {};
    }
    Mp3Frame frame;
    bool low = version != 3;
    frame.sample_rate = hz[frequency] >> (version == 3 ? 0 : version == 2 ? 1 : 2);
    frame.channels = p[3] >> 6 == 3 ? 1 : 2;
    frame.samples = layer == 1 ? 384 : layer == 3 && low ? 576 : 1152;
    int bits = kbps[low ? 1 : 0][layer - 1][rate] * 1000;
    frame.bytes = layer == 1 ? size_t((12 * bits / frame.sample_rate + padding) * 4)
                             : size_t((layer == 3 && low ? 72 : 144) * bits / frame.sample_rate + padding);
    return frame;
}

// Behind the ID3v2 tags, of which FLAC files have some too; 0 without.
uint64_t skip_id3(ByteWindow & window, const std::atomic<bool> & abort) {
    uint64_t at = 0;
    while (window.starts_with(at, "ID3")) {
        check_abort(abort);
        const uint8_t * tag = window.at(at, 10);
        if (tag == nullptr) {
            return window.size();
        }
        at += 10 +
              (uint64_t(tag[6] & 127) << 21 | uint64_t(tag[7] & 127) << 14 | uint64_t(tag[8] & 127) << 7 |
               uint64_t(tag[9] & 127)) +
              ((tag[5] & 16) != 0 ? 10 : 0);
    }
    return at;
}

// Chance makes a frame header now and then, three in a row at the right distances almost never.
bool looks_like_mp3(ByteWindow & window, uint64_t start) {
    uint64_t at = start;
    int frames = 0;
    while (frames < 3) {
        const uint8_t * header = window.at(at, 4);
        if (header == nullptr || mp3_frame(header).bytes == 0) {
            break;
        }
        at += mp3_frame(header).bytes;
        frames++;
    }
    return frames == 3 || start > 0 || (frames > 0 && at >= window.size());
}

// What may follow the last frame.
bool is_mp3_end(ByteWindow & window, uint64_t at, const std::atomic<bool> & abort) {
    for (const char * tag : {"TAG", "APETAGEX", "ID3", "LYRICS"}) {
        if (window.starts_with(at, tag)) {
            return true;
        }
    }
    for (; at < window.size(); at++) {
        check_abort(abort);
        const uint8_t * byte = window.at(at, 1);
        if (byte == nullptr || *byte != 0) {
            return false;
        }
    }
    return true;
}

void inspect_mp3(ByteWindow & window, AudioContainer & container, const std::atomic<bool> & abort) {
    container.start = skip_id3(window, abort);
    if (container.start >= window.size()) {
        container.problem = "is truncated: it ends inside its tag";
        return;
    }
    Mp3Frame first;
    container.frames = 0;
    for (uint64_t at = container.start; window.size() - at >= 4;) {
        check_abort(abort);
        const uint8_t * header = window.at(at, 4);
        const Mp3Frame frame = header == nullptr ? Mp3Frame() : mp3_frame(header);
        if (frame.bytes == 0) {
            if (!is_mp3_end(window, at, abort)) {
                container.problem = "is damaged at byte " + std::to_string(at) + ": no MP3 frame begins there";
            }
            return;
        }
        if (first.bytes == 0) {
            first = frame;
        } else if (frame.sample_rate != first.sample_rate || frame.channels != first.channels) {
            container.problem = "changes its sample rate or its channels at byte " + std::to_string(at);
            return;
        }
        if (window.size() - at < frame.bytes) {
            container.problem = "is truncated in the middle of an MP3 frame";
            return;
        }
        container.frames += int64_t(frame.samples);
        at += frame.bytes;
        container.end = at;
    }
}

AudioFormat format_of(ByteWindow & window, const std::atomic<bool> & abort) {
    if (is_wav(window)) {
        return AudioFormat::WAV;
    }
    if (window.starts_with(0, "OggS")) {
        const uint8_t * page = window.at(0, 27);
        const uint64_t packet = page == nullptr ? 27 : 27 + uint64_t(page[26]);
        // The first packet names the codec; it begins after the segment table.
        return window.starts_with(packet, "OpusHead")     ? AudioFormat::OPUS
               : window.starts_with(packet, "\x01vorbis") ? AudioFormat::VORBIS
                                                          : AudioFormat::UNKNOWN;
    }
    const uint64_t start = skip_id3(window, abort);
    if (window.starts_with(start, "fLaC")) {
        return AudioFormat::FLAC;
    }
    return looks_like_mp3(window, start) ? AudioFormat::MP3 : AudioFormat::UNKNOWN;
}

}  // namespace

AudioFormat sniff_audio(const ByteSource & beginning) {
    const std::atomic<bool> never(false);
    ByteWindow window(beginning);
    return format_of(window, never);
}

AudioContainer inspect_audio(const ByteSource & source, const std::atomic<bool> & abort) {
    AudioContainer container;
    ByteWindow window(source);
    container.format = format_of(window, abort);
    switch (container.format) {
        case AudioFormat::UNKNOWN:
            if (window.starts_with(0, "OggS")) {
                container.problem = window.size() < 64 ? "is truncated: it ends inside its first Ogg page"
                                                       : "is Ogg without Vorbis or Opus audio";
            }
            break;
        case AudioFormat::WAV:
            inspect_wav(window, container, abort);
            break;
        case AudioFormat::FLAC:
            // Whether its frames are all there is known after decoding: the header has the number of samples.
            container.start = skip_id3(window, abort);
            if (window.size() - container.start < 42) {
                container.problem = "is truncated: it ends inside its header";
            }
            break;
        case AudioFormat::MP3:
            inspect_mp3(window, container, abort);
            break;
        case AudioFormat::VORBIS:
        case AudioFormat::OPUS:
            break;  // inspect_ogg, whose findings the decoder needs
    }
    return container;
}

}  // namespace vg
