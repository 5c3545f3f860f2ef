#include "whisper_vad.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>

#include "error.h"
#include "mapped_file.h"
#include "whisper_vad_file.h"

namespace vg {
namespace {

constexpr size_t RATE = WHISPER_SAMPLE_RATE;
constexpr size_t OVERLAP = RATE / 10;
constexpr size_t SILENCE = RATE / 10;
constexpr double SLACK = double(OVERLAP + RATE / 10);

// The checked bytes, not the path again: the file could have changed in between.
struct Bytes {
    const uint8_t * data;
    size_t size;
    size_t at = 0;
    bool past_end = false;
};

whisper_model_loader loader_of(Bytes & bytes) {
    whisper_model_loader loader{};
    loader.context = &bytes;
    loader.read = [](void * context, void * output, size_t wanted) {
        Bytes & from = *static_cast<Bytes *>(context);
        const size_t n = std::min(wanted, from.size - from.at);
        from.past_end = n < wanted;
        std::memcpy(output, from.data + from.at, n);
        std::memset(static_cast<uint8_t *>(output) + n, 0, wanted - n);
        from.at += n;
        return n;
    };
    loader.eof = [](void * context) { return static_cast<Bytes *>(context)->past_end; };
    loader.close = [](void *) {};
    return loader;
}

}  // namespace

SpeechAudio::SpeechAudio(const float * samples, size_t n, const std::vector<SpeechRange> & speech) {
    size_t total = 0;
    for (size_t i = 0; i < speech.size(); i++) {
        const bool last = i + 1 == speech.size();
        const size_t begin = std::min(speech[i].begin, n);
        const size_t end = std::min(std::max(speech[i].end, begin) + (last ? 0 : OVERLAP), n);
        if (end > begin) {
            parts_.push_back({total, begin, end - begin});
            total += end - begin + (last ? 0 : SILENCE);
        }
    }
    samples_.resize(total, 0.0f);
    for (const Part & part : parts_) {
        std::copy_n(samples + part.begin, part.length, samples_.begin() + std::ptrdiff_t(part.at));
    }
}

size_t SpeechAudio::part_of(double at) const {
    const auto after = std::upper_bound(parts_.begin(), parts_.end(), at,
                                        [](double time, const Part & part) { return time < double(part.at); });
    return after == parts_.begin() ? 0 : size_t(after - parts_.begin()) - 1;
}

double SpeechAudio::original(size_t part, double at) const {
    const Part & p = parts_[part];
    double original = double(p.begin) + std::clamp(at - double(p.at), 0.0, double(p.length));
    if (part + 1 < parts_.size()) {  // the 0.1 s that follow a part may reach into the next one
        original = std::min(original, double(parts_[part + 1].begin));
    }
    return original / double(RATE);
}

TimeRange SpeechAudio::segment(TimeRange heard) const {
    if (parts_.empty()) {
        return heard;
    }
    double start = heard.start * double(RATE), end = heard.end * double(RATE);
    size_t first = part_of(start), last = part_of(end);
    if (first < last && start > double(parts_[first].at + parts_[first].length) - SLACK) {
        first++;
        start = double(parts_[first].at);
    }
    if (first < last && end < double(parts_[last].at) + SLACK) {
        last--;
        end = double(parts_[last].at + parts_[last].length);
    }
    return {original(first, start), std::max(original(first, start), original(last, end))};
}

TimeRange SpeechAudio::word(TimeRange heard) const {
    if (parts_.empty()) {
        return heard;
    }
    const double start = heard.start * double(RATE), end = heard.end * double(RATE);
    size_t best = part_of(start);
    double most = 0;
    for (size_t i = best; i < parts_.size() && double(parts_[i].at) < end; i++) {
        const double from = std::max(start, double(parts_[i].at));
        const double to = std::min(end, double(parts_[i].at + parts_[i].length));
        if (to - from > most) {
            most = to - from;
            best = i;
        }
    }
    return {original(best, start), original(best, end)};
}

std::vector<SpeechRange> detect_speech(const std::string & path, const float * samples, size_t n,
                                       const std::atomic<bool> & abort) {
    MappedFile file(path);
    check_vad_file(file);
    Bytes bytes{file.data(), file.size()};
    whisper_model_loader loader = loader_of(bytes);
    whisper_vad_context_params params = whisper_vad_default_context_params();
    params.n_threads = 1;  // the products are too small to share
    std::unique_ptr<whisper_vad_context, void (*)(whisper_vad_context *)> vad(
        whisper_vad_init_with_params(&loader, params), whisper_vad_free);
    if (!vad) {
        throw Error("E_MODEL", path + ": whisper.cpp cannot load the speech detector", VAD_HINT);
    }
    std::vector<SpeechRange> speech;
    if (!find_speech(vad.get(), samples, n, abort, speech)) {
        throw Error("E_ABORTED", "the transcription was aborted");
    }
    return speech;
}

}  // namespace vg
