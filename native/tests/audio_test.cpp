// Damaged audio whose container is sound: the decoders themselves must hold. Run in the ASan build it finds what a
// release build would survive by luck.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "audio.h"
#include "audio_opus_packet.h"
#include "audio_resampler.h"
#include "error.h"
#include "philox.h"
#include "test.h"

namespace {

std::vector<uint8_t> read_fixture(const std::string & name) {
    std::ifstream file(std::string(VOICEGRPO_SOURCE_DIR) + "/test/audio/" + name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// Whole; Opus packets are checked here and decoded elsewhere.
std::vector<float> decode(std::shared_ptr<const vg::ByteSource> source, vg::AudioInfo * info = nullptr) {
    const std::atomic<bool> abort(false);
    vg::AudioDecoder decoder(std::move(source), abort);
    if (info != nullptr) {
        *info = decoder.info();
    }
    std::vector<float> samples;
    if (decoder.info().format == "opus") {
        while (!decoder.read_packets(48000).lengths.empty()) {
        }
        return samples;
    }
    for (;;) {
        std::vector<float> block = decoder.read(10000, abort);
        if (block.empty()) {
            return samples;
        }
        samples.insert(samples.end(), block.begin(), block.end());
    }
}

std::vector<float> decode(std::vector<uint8_t> bytes, vg::AudioInfo * info = nullptr) {
    return decode(std::make_shared<vg::ByteSource>(std::move(bytes)), info);
}

// 1000 samples of two channels in 24 bits, as RIFF or as W64.
std::vector<uint8_t> make_wav(bool wide) {
    std::vector<uint8_t> bytes;
    auto put = [&](uint64_t value, int n) {
        for (int i = 0; i < n; i++) {
            bytes.push_back(uint8_t(value >> (8 * i)));
        }
    };
    auto name = [&](const char * text, bool riff = false) {
        const uint8_t riff_rest[12] = {0x2E, 0x91, 0xCF, 0x11, 0xA5, 0xD6, 0x28, 0xDB, 0x04, 0xC1, 0, 0};
        const uint8_t rest[12] = {0xF3, 0xAC, 0xD3, 0x11, 0x8C, 0xD1, 0, 0xC0, 0x4F, 0x8E, 0xDB, 0x8A};
        bytes.insert(bytes.end(), text, text + 4);
        if (wide) {
            bytes.insert(bytes.end(), riff ? riff_rest : rest, (riff ? riff_rest : rest) + 12);
        }
    };
    const int width = wide ? 8 : 4, header = wide ? 24 : 0;
    name(wide ? "riff" : "RIFF", true);
    put(6100, width);
    name(wide ? "wave" : "WAVE");
    name("fmt ");
    put(uint64_t(16 + header), width);
    put(1, 2);
    put(2, 2);
    put(16000, 4);
    put(96000, 4);
    put(6, 2);
    put(24, 2);
    name("data");
    put(uint64_t(6000 + header), width);
    for (int i = 0; i < 6000; i++) {
        put(uint64_t(i * 7), 1);
    }
    return bytes;
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
void decode_damaged(const std::vector<uint8_t> & original, size_t protect, int rounds, bool ogg) {
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
            decode(bytes);
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
        vg::AudioInfo info;
        auto samples = decode(bytes, &info);
        double seconds = double(samples.size()) / info.sample_rate;
        CHECK_CLOSE(seconds, 0.8, 0.06);
    }
}

TEST(audio_vorbis_damage_behind_good_checksums) { decode_damaged(read_fixture("sweep.ogg"), 58, 3000, true); }

TEST(audio_vorbis_damage_in_a_file) {
    // From a file stb_vorbis reads through another path than from memory.
    std::vector<uint8_t> bytes = read_fixture("sweep.ogg");
    const std::vector<float> expected = decode(bytes);
    for (int round = 0; round < 500; round++) {
        std::vector<uint8_t> damaged = bytes;
        if (round > 0) {
            auto r = vg::philox4x32({uint32_t(round), 0, 0, 0}, {78, 0});
            damaged[58 + r[0] % (damaged.size() - 58)] = uint8_t(r[1]);
            repair_checksums(damaged);
        }
        FILE * file = std::tmpfile();
        CHECK(file != nullptr && std::fwrite(damaged.data(), 1, damaged.size(), file) == damaged.size());
        std::rewind(file);
        std::vector<float> from_file, from_memory;
        std::string file_error, memory_error;
        try {
            from_file = decode(std::make_shared<vg::ByteSource>(::fileno(file)));
        } catch (const vg::Error & error) {
            file_error = error.what();
        }
        try {
            from_memory = decode(damaged);
        } catch (const vg::Error & error) {
            memory_error = error.what();
        }
        std::fclose(file);
        CHECK(file_error == memory_error);
        CHECK(from_file == from_memory);
        CHECK(round > 0 || from_file == expected);
    }
}

TEST(audio_flac_damage) { decode_damaged(read_fixture("sweep.flac"), 8, 1000, false); }

TEST(audio_mp3_damage) { decode_damaged(read_fixture("sweep.mp3"), 4, 1000, false); }

TEST(audio_opus_damage_behind_good_checksums) {
    for (const char * name : {"opus-stereo.opus", "opus-speech.opus", "opus-surround.opus"}) {
        decode_damaged(read_fixture(name), 28, 3000, true);
    }
}

TEST(audio_wav_damage) {
    for (bool wide : {false, true}) {
        decode_damaged(make_wav(wide), 12, 3000, false);
        CHECK(decode(make_wav(wide)).size() == 1000);
    }
}

// RFC 6716, section 3.2, a packet of each code, alone and as the first of two streams.
TEST(audio_opus_packets) {
    auto samples = [](std::vector<uint8_t> packet, int streams = 1) {
        return vg::opus_packet_samples(packet.data(), packet.size(), streams);
    };
    const uint8_t silk10 = 0 << 3, silk60 = 3 << 3, hybrid20 = 13 << 3, celt2 = 16 << 3, celt20 = 19 << 3;
    CHECK(samples({}) == 0);
    CHECK(samples({silk10}) == 480);
    CHECK(samples({silk60, 1, 2, 3}) == 2880);
    CHECK(samples({hybrid20, 1}) == 960);
    CHECK(samples({celt2, 1}) == 120);
    CHECK(samples({celt20, 1}) == 960);
    std::vector<uint8_t> longest(1276, celt20);
    CHECK(samples(longest) == 960);
    longest.push_back(0);
    CHECK(samples(longest) == 0);
    // Code 1: two frames of one length.
    CHECK(samples({celt20 | 1, 1, 2}) == 1920);
    CHECK(samples({celt20 | 1, 1, 2, 3}) == 0);
    // Code 2: two frames, the first one's length first.
    CHECK(samples({celt20 | 2, 1, 9, 9, 9}) == 1920);
    CHECK(samples({celt20 | 2, 4, 9, 9, 9}) == 0);
    CHECK(samples({celt20 | 2}) == 0);
    // Code 3: count, with padding, with lengths.
    CHECK(samples({celt20 | 3, 3, 1, 2, 3}) == 2880);
    CHECK(samples({celt20 | 3, 3, 1, 2}) == 0);
    CHECK(samples({celt20 | 3, 0, 1, 2}) == 0);
    CHECK(samples({celt20 | 3, 7, 1, 2, 3, 4, 5, 6, 7}) == 0);  // 140 ms
    CHECK(samples({celt20 | 3, 64 | 1, 2, 1, 0, 0}) == 960);
    CHECK(samples({celt20 | 3, 64 | 1, 9, 1, 0, 0}) == 0);
    CHECK(samples({celt20 | 3, 128 | 2, 1, 7, 8, 8}) == 1920);
    CHECK(samples({celt20 | 3, 128 | 2, 200, 7, 8, 8}) == 0);
    // Self-delimited, then a plain one; both must last as long.
    CHECK(samples({celt20, 2, 7, 7, celt20, 1}, 2) == 960);
    CHECK(samples({celt20, 2, 7, 7, celt2, 1}, 2) == 0);
    CHECK(samples({celt20, 2, 7, 7}, 2) == 0);
    CHECK(samples({celt20 | 1, 1, 7, 7, celt20 | 1, 1, 1}, 2) == 1920);
    CHECK(samples({celt20 | 3, 128 | 2, 1, 2, 7, 8, 8, celt20 | 1, 1, 1}, 2) == 1920);
}

TEST(audio_abort_is_noticed_while_the_structure_is_read) {
    const std::atomic<bool> aborted(true);
    std::vector<std::vector<uint8_t>> files = {make_wav(false), make_wav(true)};
    for (const char * name : {"sweep.mp3", "sweep.ogg", "opus-stereo.opus"}) {
        files.push_back(read_fixture(name));
    }
    for (std::vector<uint8_t> & bytes : files) {
        std::string code = "none";
        try {
            vg::AudioDecoder decoder(std::make_shared<vg::ByteSource>(std::move(bytes)), aborted);
        } catch (const vg::Error & error) {
            code = error.code;
        }
        CHECK(code == "E_ABORTED");
    }
}

TEST(audio_resampler_filters_come_with_the_samples_and_are_kept) {
    std::vector<float> input(100, 0.5f), out;
    vg::Resampler idle(50021);
    CHECK(!idle.filter());
    idle.push(input.data(), 0, out);
    idle.finish(out);
    CHECK(!idle.filter() && out.empty());
    vg::Resampler used(50021);
    used.push(input.data(), input.size(), out);
    CHECK(used.filter() != nullptr);
    const auto other = vg::ResamplerFilter::of(8000);
    CHECK(vg::ResamplerFilter::of(50021) == used.filter());
    CHECK(vg::ResamplerFilter::of(8000) == other);
    for (uint32_t rate = 20000; rate < 20008; rate++) {
        vg::ResamplerFilter::of(rate);
    }
    CHECK(vg::ResamplerFilter::of(8000) != other);  // a few, not all
}

TEST(audio_resampler_is_the_same_in_pieces) {
    for (uint32_t rate : {1000U, 8000U, 11025U, 16000U, 44100U, 44099U, 192000U}) {
        std::vector<float> input(size_t(rate) / 4 + 7), whole, parts;
        for (size_t i = 0; i < input.size(); i++) {
            input[i] = float(vg::philox4x32({uint32_t(i), 0, 0, 0}, {79, 0})[0]) / 2147483648.0f - 1;
        }
        vg::Resampler one(rate), many(rate);
        one.push(input.data(), input.size(), whole);
        one.finish(whole);
        for (size_t at = 0, step = 0; at < input.size(); at += step) {
            step = std::min(step % 97 + 1, input.size() - at);
            many.push(input.data() + at, step, parts);
        }
        many.finish(parts);
        CHECK(whole == parts);
        CHECK(whole.size() == (input.size() * 2 * 16000 / rate + 1) / 2);
    }
}
