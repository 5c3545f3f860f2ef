// Damaged audio whose container is sound: the decoders themselves must hold. Run in the ASan build it finds what a
// release build would survive by luck.
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "audio.h"
#include "error.h"
#include "philox.h"
#include "test.h"

namespace {

std::vector<uint8_t> read_fixture(const std::string & name) {
    std::ifstream file(std::string(VOICEGRPO_SOURCE_DIR) + "/test/audio/" + name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// Gives every Ogg page the checksum of what it now holds.
void repair_checksums(std::vector<uint8_t> & bytes) {
    for (size_t at = 0; at + 27 <= bytes.size() && std::memcmp(&bytes[at], "OggS", 4) == 0;) {
        size_t length = 27 + bytes[at + 26];
        for (size_t i = 0; i < bytes[at + 26]; i++) {
            length += bytes[at + 27 + i];
        }
        if (at + length > bytes.size()) {
            return;
        }
        std::memset(&bytes[at + 22], 0, 4);
        uint32_t crc = 0;
        for (size_t i = 0; i < length; i++) {
            crc ^= uint32_t(bytes[at + i]) << 24;
            for (int bit = 0; bit < 8; bit++) {
                crc = (crc & 0x80000000U) != 0 ? (crc << 1) ^ 0x04c11db7U : crc << 1;
            }
        }
        for (int i = 0; i < 4; i++) {
            bytes[at + 22 + size_t(i)] = uint8_t(crc >> (8 * i));
        }
        at += length;
    }
}

// Decodes `rounds` damaged copies; `protect` bytes at the beginning stay, so that the damage gets past the first check.
void decode_damaged(const std::string & name, size_t protect, int rounds, bool ogg) {
    const std::vector<uint8_t> original = read_fixture(name);
    CHECK(original.size() > 1000);
    int decoded = 0, refused = 0;
    for (int round = 0; round < rounds; round++) {
        std::vector<uint8_t> bytes = original;
        for (uint32_t flip = 0; flip < 1 + uint32_t(round) % 4; flip++) {
            auto r = vg::philox4x32({uint32_t(round), flip, 0, 0}, {77, 0});
            size_t reach =
                round % 2 == 0 ? bytes.size() : std::min<size_t>(bytes.size(), 4500);  // half of them in the headers
            bytes[protect + r[0] % (reach - protect)] = uint8_t(r[1]);
        }
        if (ogg) {
            repair_checksums(bytes);
        }
        try {
            vg::decode_audio(bytes.data(), bytes.size());
            decoded++;
        } catch (const vg::Error & error) {
            CHECK(error.code == "E_AUDIO" || error.code == "E_LIMIT");
            refused++;
        }
    }
    CHECK(decoded + refused == rounds);
    CHECK(refused > 0);
}

}  // namespace

TEST(audio_fixtures_decode_whole) {
    for (const char * name : {"sweep.mp3", "sweep.flac", "sweep.ogg"}) {
        auto bytes = read_fixture(name);
        auto audio = vg::decode_audio(bytes.data(), bytes.size());
        double seconds = double(audio.samples.size()) / audio.channels / audio.sample_rate;
        CHECK_CLOSE(seconds, 0.8, 0.06);
    }
}

TEST(audio_vorbis_damage_behind_good_checksums) { decode_damaged("sweep.ogg", 58, 3000, true); }

TEST(audio_flac_damage) { decode_damaged("sweep.flac", 8, 1000, false); }

TEST(audio_mp3_damage) { decode_damaged("sweep.mp3", 4, 1000, false); }
