#include "audio.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>

#include "audio_containers.h"
#include "error.h"

// miniaudio cut down to its decoders. They are declared only where they are defined, so this file holds them.
#define MA_NO_DEVICE_IO
#define MA_NO_ENCODING
#define MA_NO_ENGINE
#define MA_NO_GENERATION
#define MA_NO_NODE_GRAPH
#define MA_NO_RESOURCE_MANAGER
#define MA_NO_THREADING
#define MINIAUDIO_IMPLEMENTATION
#include "miniaudio.h"

#define STB_VORBIS_HEADER_ONLY
#define STB_VORBIS_NO_PUSHDATA_API
#define STB_VORBIS_NO_STDIO
#include "stb_vorbis.c"

namespace vg {
namespace {

constexpr uint32_t MIN_RATE = 1000;
constexpr uint32_t MAX_RATE = 192000;
constexpr uint32_t MAX_CHANNELS = 32;
constexpr size_t MAX_SAMPLES = size_t(1) << 28;  // 1 GiB of floats, 50 minutes of stereo at 44.1 kHz
constexpr size_t CHUNK_FRAMES = 16384;

[[noreturn]] void fail(const std::string & message) {
    throw Error("E_AUDIO", message,
                "WAV, MP3, FLAC and Ogg Vorbis are read here; others can be converted with `ffmpeg -i FILE -ar 16000 "
                "-ac 1 out.wav`.");
}

// read(frames, out) returns how many frames it wrote. Memory grows with what is decoded, never with what a header
// claims.
void read_all(DecodedAudio & audio, uint32_t rate, uint32_t channels,
              const std::function<size_t(size_t, float *)> & read) {
    if (rate < MIN_RATE || rate > MAX_RATE) {
        fail("the sample rate in its header is " + std::to_string(rate) + " Hz, expected " + std::to_string(MIN_RATE) +
             " to " + std::to_string(MAX_RATE));
    }
    if (channels < 1 || channels > MAX_CHANNELS) {
        fail("its header names " + std::to_string(channels) + " channels, expected 1 to " +
             std::to_string(MAX_CHANNELS));
    }
    audio.sample_rate = int(rate);
    audio.channels = int(channels);
    for (;;) {
        size_t have = audio.samples.size();
        if (have + CHUNK_FRAMES * channels > MAX_SAMPLES) {
            throw Error("E_LIMIT",
                        "it decodes to more than " + std::to_string(MAX_SAMPLES / channels / rate / 60) +
                            " minutes of audio",
                        "Cut it into shorter files.");
        }
        audio.samples.resize(have + CHUNK_FRAMES * channels);
        size_t got = std::min(read(CHUNK_FRAMES, audio.samples.data() + have), CHUNK_FRAMES);
        audio.samples.resize(have + got * channels);
        if (got == 0) {
            return;
        }
    }
}

void check_complete(const DecodedAudio & audio, uint64_t promised) {
    uint64_t frames = audio.samples.size() / size_t(audio.channels);
    if (frames < promised) {
        fail("the file is truncated or damaged: its header promises " + std::to_string(promised) +
             " samples a channel, " + std::to_string(frames) + " could be decoded");
    }
}

void decode_wav(const uint8_t * bytes, size_t size, DecodedAudio & audio) {
    auto wav = std::make_unique<ma_dr_wav>();
    if (!ma_dr_wav_init_memory(wav.get(), bytes, size, nullptr)) {
        fail("its WAV header cannot be read, or its encoding is not supported");
    }
    std::unique_ptr<ma_dr_wav, ma_result (*)(ma_dr_wav *)> close(wav.get(), ma_dr_wav_uninit);
    read_all(audio, wav->sampleRate, wav->channels,
             [&](size_t n, float * out) { return size_t(ma_dr_wav_read_pcm_frames_f32(wav.get(), n, out)); });
}

void decode_flac(const uint8_t * bytes, size_t size, DecodedAudio & audio) {
    std::unique_ptr<ma_dr_flac, void (*)(ma_dr_flac *)> flac(ma_dr_flac_open_memory(bytes, size, nullptr),
                                                             ma_dr_flac_close);
    if (!flac) {
        fail("its FLAC header cannot be read");
    }
    read_all(audio, flac->sampleRate, flac->channels,
             [&](size_t n, float * out) { return size_t(ma_dr_flac_read_pcm_frames_f32(flac.get(), n, out)); });
    check_complete(audio, flac->totalPCMFrameCount);
}

void decode_mp3(const uint8_t * bytes, size_t size, DecodedAudio & audio) {
    auto mp3 = std::make_unique<ma_dr_mp3>();
    if (!ma_dr_mp3_init_memory(mp3.get(), bytes, size, nullptr)) {
        fail("its MP3 frames cannot be decoded");
    }
    std::unique_ptr<ma_dr_mp3, void (*)(ma_dr_mp3 *)> close(mp3.get(), ma_dr_mp3_uninit);
    uint64_t promised = mp3->totalPCMFrameCount;  // from a Xing or VBRI header, else all ones
    uint64_t ends = uint64_t(mp3->delayInPCMFrames) + mp3->paddingInPCMFrames;
    read_all(audio, mp3->sampleRate, mp3->channels,
             [&](size_t n, float * out) { return size_t(ma_dr_mp3_read_pcm_frames_f32(mp3.get(), n, out)); });
    check_complete(audio, promised == UINT64_MAX || promised < ends ? 0 : promised - ends);
}

void decode_vorbis(const uint8_t * bytes, size_t size, DecodedAudio & audio) {
    if (size > size_t(INT32_MAX)) {
        throw Error("E_LIMIT", "the file is larger than 2 GiB", "Cut it into shorter files.");
    }
    // Whatever the headers ask for comes out of this one block, so they cannot ask for more.
    std::vector<char> arena(size_t(8) << 20);
    stb_vorbis_alloc alloc = {arena.data(), int(arena.size())};
    int error = 0;
    std::unique_ptr<stb_vorbis, void (*)(stb_vorbis *)> vorbis(stb_vorbis_open_memory(bytes, int(size), &error, &alloc),
                                                               stb_vorbis_close);
    if (!vorbis) {
        fail("its Vorbis headers cannot be read (error " + std::to_string(error) + " of stb_vorbis)");
    }
    stb_vorbis_info info = stb_vorbis_get_info(vorbis.get());
    unsigned promised = stb_vorbis_stream_length_in_samples(vorbis.get());
    read_all(audio, info.sample_rate, uint32_t(info.channels), [&](size_t n, float * out) {
        int got = stb_vorbis_get_samples_float_interleaved(vorbis.get(), info.channels, out, int(n) * info.channels);
        return size_t(std::max(got, 0));
    });
    check_complete(audio, promised == UINT32_MAX ? 0 : promised);
}

}  // namespace

DecodedAudio decode_audio(const uint8_t * bytes, size_t size) {
    if (size == 0) {
        fail("the file is empty");
    }
    AudioContainer container = inspect_audio(bytes, size);
    if (!container.problem.empty()) {
        fail("the file " + container.problem);
    }
    DecodedAudio audio;
    switch (container.format) {
        case AudioFormat::UNKNOWN:
            fail("the file is not audio that is known here");
        case AudioFormat::WAV:
            audio.format = "wav";
            decode_wav(bytes, size, audio);
            break;
        case AudioFormat::FLAC:
            audio.format = "flac";
            decode_flac(bytes, size, audio);
            break;
        case AudioFormat::MP3:
            audio.format = "mp3";
            decode_mp3(bytes, size, audio);
            break;
        case AudioFormat::VORBIS:
            audio.format = "vorbis";
            decode_vorbis(bytes, size, audio);
            break;
    }
    if (audio.samples.empty()) {
        fail("the file holds no audio");
    }
    for (float & sample : audio.samples) {
        if (!std::isfinite(sample)) {
            fail("the file holds samples that are not numbers");
        }
        sample = std::clamp(sample, -1.0f, 1.0f);  // lossy decoders overshoot a little
    }
    return audio;
}

}  // namespace vg
