#include "audio.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "audio_file.h"
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
#include "stb_vorbis.c"

namespace vg {
namespace {

constexpr uint32_t MIN_RATE = 1000;
constexpr uint32_t MAX_RATE = 192000;
constexpr uint32_t MAX_CHANNELS = 32;
constexpr size_t CHUNK_FRAMES = 4096;
constexpr int OPUS_RATE = 48000;

[[noreturn]] void fail(const std::string & message) {
    throw Error(
        "E_AUDIO", message,
        "WAV, MP3, FLAC, Ogg Vorbis and Ogg Opus are read here; others can be converted with `ffmpeg -i FILE -ar "
        "16000 -ac 1 out.wav`.");
}

void check_shape(uint32_t rate, uint32_t channels) {
    if (rate < MIN_RATE || rate > MAX_RATE) {
        fail("the sample rate in its header is " + std::to_string(rate) + " Hz, expected " + std::to_string(MIN_RATE) +
             " to " + std::to_string(MAX_RATE));
    }
    if (channels < 1 || channels > MAX_CHANNELS) {
        fail("its header names " + std::to_string(channels) + " channels, expected 1 to " +
             std::to_string(MAX_CHANNELS));
    }
}

}  // namespace

class AudioDecoder::Frames {
  public:
    virtual ~Frames() = default;
    // Frames written to `out`, interleaved; 0 at the end.
    virtual size_t read(size_t frames, float * out) = 0;

    uint32_t sample_rate = 0, channels = 0;
    int64_t claimed = UNKNOWN_FRAMES;  // for AudioInfo::frames
    uint64_t promised = 0;             // fewer mean that the file is truncated or damaged
    bool unbounded = false;            // samples may have any size
};

namespace {

// Bytes [begin, end) of a source as the decoders of miniaudio ask for them.
class Cursor {
  public:
    Cursor(const ByteSource & source, uint64_t begin, uint64_t end)
        : source_(source), begin_(int64_t(begin)), end_(int64_t(end)), at_(begin_) {}

    static size_t read(void * self, void * out, size_t n) {
        auto * cursor = static_cast<Cursor *>(self);
        n = size_t(std::min<uint64_t>(n, uint64_t(cursor->end_ - cursor->at_)));
        size_t got = cursor->source_.read(uint64_t(cursor->at_), out, n);
        cursor->at_ += int64_t(got);
        return got;
    }

    template <class Origin> static ma_bool32 seek(void * self, int offset, Origin origin) {
        auto * cursor = static_cast<Cursor *>(self);
        // 0, 1, 2: from the beginning, from here, from the end, in each of the decoders.
        int64_t to = (int(origin) == 0 ? cursor->begin_ : int(origin) == 1 ? cursor->at_ : cursor->end_) + offset;
        if (to < cursor->begin_ || to > cursor->end_) {
            return MA_FALSE;
        }
        cursor->at_ = to;
        return MA_TRUE;
    }

    static ma_bool32 tell(void * self, ma_int64 * at) {
        auto * cursor = static_cast<Cursor *>(self);
        *at = cursor->at_ - cursor->begin_;
        return MA_TRUE;
    }

  private:
    const ByteSource & source_;
    int64_t begin_, end_, at_;
};

static_assert(MA_DR_WAV_SEEK_SET == 0 && MA_DR_WAV_SEEK_CUR == 1 && MA_DR_WAV_SEEK_END == 2, "seek origins");
static_assert(MA_DR_FLAC_SEEK_SET == 0 && MA_DR_FLAC_SEEK_CUR == 1 && MA_DR_FLAC_SEEK_END == 2, "seek origins");
static_assert(MA_DR_MP3_SEEK_SET == 0 && MA_DR_MP3_SEEK_CUR == 1 && MA_DR_MP3_SEEK_END == 2, "seek origins");

class WavFrames : public AudioDecoder::Frames {
  public:
    WavFrames(const ByteSource & source, const AudioContainer & container) : cursor_(source, 0, source.size()) {
        if (!ma_dr_wav_init(&wav_, Cursor::read, Cursor::seek<ma_dr_wav_seek_origin>, Cursor::tell, &cursor_,
                            nullptr)) {
            fail("its WAV header cannot be read, or its encoding is not supported");
        }
        sample_rate = wav_.sampleRate;
        channels = wav_.channels;
        if (container.open_length) {  // RF64 in a pipe says 0
            wav_.bytesRemaining = wav_.dataChunkDataSize = container.audio_bytes;
            wav_.totalPCMFrameCount = container.audio_bytes / std::max(1U, ma_dr_wav_get_bytes_per_pcm_frame(&wav_));
        }
        const int tag = wav_.translatedFormatTag;
        unbounded = tag == MA_DR_WAVE_FORMAT_IEEE_FLOAT;
        // For the other encodings the number is a guess of the header's.
        if (unbounded || tag == MA_DR_WAVE_FORMAT_PCM || tag == MA_DR_WAVE_FORMAT_ALAW ||
            tag == MA_DR_WAVE_FORMAT_MULAW) {
            promised = container.audio_bytes / std::max(1U, ma_dr_wav_get_bytes_per_pcm_frame(&wav_));
            claimed = int64_t(promised);
        }
    }
    ~WavFrames() override { ma_dr_wav_uninit(&wav_); }

    size_t read(size_t frames, float * out) override {
        return size_t(ma_dr_wav_read_pcm_frames_f32(&wav_, frames, out));
    }

  private:
    Cursor cursor_;
    ma_dr_wav wav_;
};

class FlacFrames : public AudioDecoder::Frames {
  public:
    FlacFrames(const ByteSource & source, const AudioContainer & container)
        : cursor_(source, container.start, source.size()),
          flac_(ma_dr_flac_open(Cursor::read, Cursor::seek<ma_dr_flac_seek_origin>, Cursor::tell, &cursor_, nullptr),
                ma_dr_flac_close) {
        if (!flac_) {
            fail("its FLAC header cannot be read");
        }
        sample_rate = flac_->sampleRate;
        channels = flac_->channels;
        promised = flac_->totalPCMFrameCount;
        claimed = promised > 0 ? int64_t(promised) : UNKNOWN_FRAMES;  // 0: written to a pipe
    }

    size_t read(size_t frames, float * out) override {
        return size_t(ma_dr_flac_read_pcm_frames_f32(flac_.get(), frames, out));
    }

  private:
    Cursor cursor_;
    std::unique_ptr<ma_dr_flac, void (*)(ma_dr_flac *)> flac_;
};

class Mp3Frames : public AudioDecoder::Frames {
  public:
    Mp3Frames(const ByteSource & source, const AudioContainer & container)
        : cursor_(source, container.start, container.end) {
        if (!ma_dr_mp3_init(&mp3_, Cursor::read, Cursor::seek<ma_dr_mp3_seek_origin>, Cursor::tell, nullptr, &cursor_,
                            nullptr)) {
            fail("its MP3 frames cannot be decoded");
        }
        sample_rate = mp3_.sampleRate;
        channels = mp3_.channels;
        claimed = container.frames;
        const uint64_t total = mp3_.totalPCMFrameCount;  // from a Xing or VBRI header, else all ones
        const uint64_t ends = uint64_t(mp3_.delayInPCMFrames) + mp3_.paddingInPCMFrames;
        if (total != UINT64_MAX && total >= ends) {
            promised = total - ends;
            claimed = int64_t(promised);
        }
    }
    ~Mp3Frames() override { ma_dr_mp3_uninit(&mp3_); }

    size_t read(size_t frames, float * out) override {
        return size_t(ma_dr_mp3_read_pcm_frames_f32(&mp3_, frames, out));
    }

  private:
    Cursor cursor_;
    ma_dr_mp3 mp3_;
};

// The logical streams one after another, each with a decoder of its own.
class VorbisFrames : public AudioDecoder::Frames {
  public:
    VorbisFrames(const ByteSource & source, const std::vector<OggLink> & links)
        : source_(source), links_(links), file_(source), vorbis_(nullptr, stb_vorbis_close) {
        if (source.size() > uint64_t(INT32_MAX)) {
            throw Error("E_LIMIT", "the file is larger than 2 GiB", "Cut it into shorter files.");
        }
        claimed = 0;
        for (const OggLink & link : links) {
            const uint64_t first = std::min(link.first_granule, link.last_granule);
            if (link.last_granule > MAX_POSITION) {
                fail("the file is damaged: its last Ogg page has an impossible position");
            }
            promised += link.last_granule - first;
            // A recording that was cut from a longer one begins at a later position than 0. Where, only decoding tells.
            claimed = claimed < 0 || first > MOST_ON_A_PAGE ? UNKNOWN_FRAMES : claimed + int64_t(link.last_granule);
        }
        open();
        stb_vorbis_info info = stb_vorbis_get_info(vorbis_.get());
        sample_rate = info.sample_rate;
        channels = uint32_t(info.channels);
    }

    size_t read(size_t frames, float * out) override {
        while (from_ == to_) {
            from_ = 0;
            to_ = stb_vorbis_get_frame_float(vorbis_.get(), nullptr, &planes_);
            if (file_.cut_short()) {
                fail("the file is truncated: it has become shorter, or cannot be read any more");
            }
            // From a file it reads on behind its section.
            const OggLink & link = links_[link_];
            const uint64_t at = link.begin + stb_vorbis_get_file_offset(vorbis_.get());
            if (at > link.end) {
                to_ = 0;
            }
            if (to_ > 0) {
                if (at <= link.first_end) {
                    first_page_ += uint64_t(to_);
                }
                break;
            }
            // Where the link's samples begin is known now: its first page ends at first_granule.
            promised += std::min({first_page_, link.first_granule, link.last_granule});
            first_page_ = 0;
            if (link_ + 1 == links_.size()) {
                return 0;
            }
            link_++;
            open();
            stb_vorbis_info info = stb_vorbis_get_info(vorbis_.get());
            if (info.sample_rate != sample_rate || uint32_t(info.channels) != channels) {
                fail("the file changes its sample rate or its channels at byte " + std::to_string(links_[link_].begin));
            }
        }
        const int n = int(std::min<size_t>(frames, size_t(to_ - from_)));
        for (int i = 0; i < n; i++) {
            for (uint32_t channel = 0; channel < channels; channel++) {
                *out++ = planes_[channel][from_ + i];
            }
        }
        from_ += n;
        return size_t(n);
    }

  private:
    static constexpr uint64_t MAX_POSITION = uint64_t(1) << 48;
    static constexpr uint64_t MOST_ON_A_PAGE = 255 * 4096;  // samples

    void open() {
        const OggLink & link = links_[link_];
        vorbis_.reset();
        // Whatever the headers ask for comes out of this one block, so they cannot ask for more.
        arena_.assign(size_t(8) << 20, 0);
        stb_vorbis_alloc alloc = {arena_.data(), int(arena_.size())};
        int error = 0;
        if (source_.memory() != nullptr) {
            vorbis_.reset(
                stb_vorbis_open_memory(source_.memory() + link.begin, int(link.end - link.begin), &error, &alloc));
        } else {
            FILE * file = file_.open(link.begin);
            vorbis_.reset(stb_vorbis_open_file_section(file, 0, &error, &alloc, unsigned(link.end - link.begin)));
        }
        if (file_.cut_short()) {
            fail("the file is truncated: it has become shorter, or cannot be read any more");
        }
        if (!vorbis_) {
            fail("its Vorbis headers cannot be read (error " + std::to_string(error) + " of stb_vorbis)");
        }
    }

    const ByteSource & source_;
    const std::vector<OggLink> & links_;
    size_t link_ = 0;
    float ** planes_ = nullptr;  // of the packet decoded last; samples [from_, to_) are still to be given out
    int from_ = 0, to_ = 0;
    uint64_t first_page_ = 0;  // samples of this link that its first page with audio gave
    std::vector<char> arena_;
    AudioFile file_;
    std::unique_ptr<stb_vorbis, void (*)(stb_vorbis *)> vorbis_;
};

}  // namespace

AudioDecoder::AudioDecoder(std::shared_ptr<const ByteSource> source, const std::atomic<bool> & abort)
    : source_(std::move(source)) {
    if (source_->size() == 0) {
        fail("the file is empty");
    }
    container_ = inspect_audio(*source_, abort);
    if (container_.format == AudioFormat::VORBIS || container_.format == AudioFormat::OPUS) {
        ogg_ = inspect_ogg(*source_, abort);
        container_.problem = ogg_.problem;
    }
    if (!container_.problem.empty()) {
        fail("the file " + container_.problem);
    }
    switch (container_.format) {
        case AudioFormat::UNKNOWN:
            fail("the file is not audio that is known here");
        case AudioFormat::WAV:
            info_.format = "wav";
            break;
        case AudioFormat::FLAC:
            info_.format = "flac";
            break;
        case AudioFormat::MP3:
            info_.format = "mp3";
            break;
        case AudioFormat::VORBIS:
            info_.format = "vorbis";
            break;
        case AudioFormat::OPUS:
            info_.format = "opus";
            info_.sample_rate = OPUS_RATE;
            measure(abort);
            return;
    }
    frames_ = open_frames();
    check_shape(frames_->sample_rate, frames_->channels);
    info_.sample_rate = int(frames_->sample_rate);
    info_.channels = int(frames_->channels);
    info_.frames = frames_->claimed;
    chunk_.resize(CHUNK_FRAMES * frames_->channels);
    if (frames_->unbounded) {
        measure(abort);
    }
}

AudioDecoder::~AudioDecoder() = default;

std::unique_ptr<AudioDecoder::Frames> AudioDecoder::open_frames() const {
    switch (container_.format) {
        case AudioFormat::WAV:
            return std::make_unique<WavFrames>(*source_, container_);
        case AudioFormat::FLAC:
            return std::make_unique<FlacFrames>(*source_, container_);
        case AudioFormat::MP3:
            return std::make_unique<Mp3Frames>(*source_, container_);
        default:
            return std::make_unique<VorbisFrames>(*source_, ogg_.links);
    }
}

// Once through the file for what is not in its header: the length of Opus, the peak of float WAV. Every Opus packet is
// checked on the way.
void AudioDecoder::measure(const std::atomic<bool> & abort) {
    if (container_.format == AudioFormat::OPUS) {
        auto opus = std::make_unique<OpusReader>(*source_, ogg_.links);
        for (;;) {
            check_abort(abort);
            OpusPackets packets = opus->read(OPUS_RATE);
            if (packets.lengths.empty()) {
                break;
            }
            if (info_.channels == 0) {
                info_.channels = opus->head().channels;
            }
        }
        info_.frames = int64_t(opus->heard());
        if (info_.frames == 0) {
            fail("the file holds no audio");
        }
        opus_ = std::make_unique<OpusReader>(*source_, ogg_.links);
        return;
    }
    while (!read(CHUNK_FRAMES, abort).empty()) {
    }
    info_.peak = level_.peak;
    level_ = {};
    frames_ = open_frames();
}

std::vector<float> AudioDecoder::read(size_t frames, const std::atomic<bool> & abort) {
    if (!frames_) {
        throw Error("E_ARGUMENT", "read: Opus is read in packets");
    }
    const size_t channels = frames_->channels;
    std::vector<float> mono;
    while (mono.size() < frames) {
        check_abort(abort);
        const size_t wanted = std::min(CHUNK_FRAMES, frames - mono.size());
        const size_t got = std::min(frames_->read(wanted, chunk_.data()), wanted);
        if (got == 0) {
            if (level_.frames == 0) {
                fail("the file holds no audio");
            }
            if (level_.frames < frames_->promised) {
                fail("the file is truncated or damaged: its header promises " + std::to_string(frames_->promised) +
                     " samples a channel, " + std::to_string(level_.frames) + " could be decoded");
            }
            break;
        }
        for (size_t frame = 0; frame < got; frame++) {
            double sum = 0;
            for (size_t channel = 0; channel < channels; channel++) {
                const double sample = chunk_[frame * channels + channel];
                if (!std::isfinite(sample)) {
                    fail("the file holds samples that are not numbers");
                }
                level_.peak = std::max(level_.peak, std::abs(sample));
                level_.squares += sample * sample;
                sum += sample;
            }
            mono.push_back(channels == 1 ? chunk_[frame] : float(sum / double(channels)));
        }
        level_.frames += got;
    }
    return mono;
}

OpusPackets AudioDecoder::read_packets(uint64_t samples) {
    if (!opus_) {
        throw Error("E_ARGUMENT", "readPackets: only Opus is read in packets");
    }
    return opus_->read(samples);
}

const OpusHead & AudioDecoder::opus_head() const { return opus_->head(); }

}  // namespace vg
