#include "audio_opus_packet.h"

namespace vg {
namespace {

constexpr size_t MAX_FRAME = 1275;      // bytes
constexpr uint32_t MAX_SAMPLES = 5760;  // 120 ms
constexpr size_t BAD_LENGTH = SIZE_MAX;

struct Cursor {
    const uint8_t * at;
    size_t left;

    bool skip(size_t n) {
        if (n > left) {
            return false;
        }
        at += n;
        left -= n;
        return true;
    }
    // Section 3.2.1: one or two bytes.
    size_t frame_length() {
        if (left < 1) {
            return BAD_LENGTH;
        }
        size_t length = at[0];
        if (length >= 252) {
            if (left < 2) {
                return BAD_LENGTH;
            }
            length += size_t(at[1]) * 4;
            skip(1);
        }
        skip(1);
        return length;
    }
};

// Section 3.1, table 2.
uint32_t frame_samples(uint8_t toc) {
    int config = toc >> 3;
    if (config < 12) {
        static const uint32_t silk[4] = {480, 960, 1920, 2880};
        return silk[config & 3];
    }
    return config < 16 ? 480U << (config & 1) : 120U << (config & 3);
}

// Goes past one stream of a packet; its samples, 0 where a rule is broken.
uint32_t skip_stream(Cursor & cursor, bool delimited) {
    if (cursor.left < 1) {
        return 0;
    }
    const uint8_t toc = cursor.at[0];
    cursor.skip(1);
    size_t frames = 1, padding = 0;
    bool variable = false;
    switch (toc & 3) {
        case 0:
            break;
        case 1:
            frames = 2;
            break;
        case 2:
            frames = 2;
            variable = true;
            break;
        default: {
            if (cursor.left < 1) {
                return 0;
            }
            const uint8_t count = cursor.at[0];
            cursor.skip(1);
            frames = count & 63;
            variable = (count & 128) != 0;
            if ((count & 64) != 0) {
                for (uint8_t byte = 255; byte == 255;) {
                    if (cursor.left < 1) {
                        return 0;
                    }
                    byte = cursor.at[0];
                    cursor.skip(1);
                    padding += byte == 255 ? 254 : byte;
                }
            }
        }
    }
    const uint32_t samples = frame_samples(toc) * uint32_t(frames);
    if (frames == 0 || samples > MAX_SAMPLES) {
        return 0;
    }

    size_t bytes = 0;
    if (variable) {
        for (size_t i = 0; i + 1 < frames; i++) {
            size_t length = cursor.frame_length();
            if (length > MAX_FRAME) {
                return 0;
            }
            bytes += length;
        }
    }
    if (delimited) {
        size_t length = cursor.frame_length();  // of the last frame, or of each
        if (length > MAX_FRAME) {
            return 0;
        }
        bytes = variable ? bytes + length : frames * length;
    } else {
        if (cursor.left < bytes + padding) {
            return 0;
        }
        size_t rest = cursor.left - padding - bytes;
        if (variable ? rest > MAX_FRAME : rest % frames != 0 || rest / frames > MAX_FRAME) {
            return 0;
        }
        bytes += rest;
    }
    return cursor.skip(bytes) && cursor.skip(padding) ? samples : 0;
}

}  // namespace

uint32_t opus_packet_samples(const uint8_t * packet, size_t size, int streams) {
    Cursor cursor = {packet, size};
    uint32_t samples = 0;
    for (int stream = 0; stream < streams; stream++) {
        uint32_t these = skip_stream(cursor, stream + 1 < streams);
        if (these == 0 || (stream > 0 && these != samples)) {
            return 0;
        }
        samples = these;
    }
    return samples;
}

}  // namespace vg
