#include "whisper_engine.h"

#include <algorithm>
#include <cmath>
#include <mutex>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "error.h"
#include "mapped_file.h"
#include "packed_backend.h"
#include "quiet_cuts.h"
#include "whisper.h"
#include "whisper_decoding.h"
#include "whisper_file.h"
#include "whisper_internals.h"
#include "whisper_log.h"
#include "whisper_vad.h"
#include "whisper_window.h"

#ifdef VOICEGRPO_CUDA
#include "device_probe.h"
#endif

namespace vg {
namespace {

constexpr size_t RATE = WHISPER_SAMPLE_RATE;
constexpr int FULL_CONTEXT = 1500;            // 30 s; whisper.cpp steps through longer audio in pieces of this length
constexpr size_t SHORTEST = RATE / 10;        // whisper.cpp hears nothing in less
constexpr size_t LONGEST = RATE * 24 * 3600;  // its counters of samples and frames have 32 bits
constexpr float LOUDEST = 1000;  // far over full scale; the spectrogram of what is far louder is not finite

struct StateDeleter {
    void operator()(whisper_state * state) const { whisper_free_state(state); }
};
using State = std::unique_ptr<whisper_state, StateDeleter>;

void check_samples(const float * samples, size_t n) {
    if (n > LONGEST) {
        throw Error("E_LIMIT", "the audio is longer than a day", "Cut it into shorter files.");
    }
    for (size_t i = 0; i < n; i++) {
        if (!(std::fabs(samples[i]) <= LOUDEST)) {
            throw Error("E_ARGUMENT", "transcribe: `samples` must be numbers in [-1, 1], sample " + std::to_string(i) +
                                          " is " + std::to_string(samples[i]));
        }
    }
}

}  // namespace

struct WhisperEngine::Impl {
    whisper_context * context = nullptr;
    WhisperInfo info;
    std::string path;
    std::once_flag words_once;
    std::unique_ptr<CrossAttentionReader> words;

    ~Impl() {
        words.reset();
        whisper_free(context);
    }

    CrossAttentionReader * words_reader();
    std::string language_code(const WhisperOptions & options) const;
};

// What a call used goes back to the system at its end. glibc raises the size from which it does so with each block that
// is freed, up to 32 MB, and keeps what is smaller: two calls at once took 563 MB in place of 474 with the base model.
static void return_large_blocks() {
#ifdef __GLIBC__
    static const bool once = mallopt(M_MMAP_THRESHOLD, 256 * 1024) == 1;
    (void)once;
#endif
}

WhisperEngine::WhisperEngine(const std::string & path) : impl_(std::make_unique<Impl>()) {
    return_large_blocks();
    listen_to_whisper_log();
    MappedFile file(path);
    check_whisper_file(file);
    LogScope log;
#ifndef VOICEGRPO_CUDA
    register_packed_backend();
#endif
    whisper_context_params params = whisper_context_default_params();
    // The packed attention never writes the scores either, and unlike ggml's flash attention it does not count the
    // positions between the audio context and the next multiple of 256 as silence.
    params.flash_attn = false;
#ifdef VOICEGRPO_CUDA
    params.use_gpu = true;
    params.gpu_device = used_cuda();
#else
    params.use_gpu = false;
#endif
    // From the checked bytes, not from the path again: the file could have changed in between.
    impl_->context =
        whisper_init_from_buffer_with_params_no_state(const_cast<uint8_t *>(file.data()), file.size(), params);
    if (!impl_->context) {
        throw Error("E_MODEL", path + ": whisper.cpp cannot load the model: " + log.complaints(),
                    "Give a Whisper model in ggml's format, for instance ggml-base.bin.");
    }
    impl_->path = path;
    WhisperInfo & info = impl_->info;
    info.multilingual = whisper_is_multilingual(impl_->context) != 0;
    info.vocab = whisper_model_n_vocab(impl_->context);
    info.audio_context = whisper_model_n_audio_ctx(impl_->context);
    info.text_context = whisper_model_n_text_ctx(impl_->context);
    info.mels = whisper_model_n_mels(impl_->context);
    info.type = whisper_model_type_readable(impl_->context);
    if (info.multilingual) {
        int languages = info.vocab - 51765 - 1;  // as whisper.cpp counts them
        for (int id = 0; id <= std::min(whisper_lang_max_id(), languages - 1); id++) {
            info.languages.push_back(whisper_lang_str(id));
        }
    } else {
        info.languages.push_back("en");
    }
}

WhisperEngine::~WhisperEngine() = default;

const WhisperInfo & WhisperEngine::info() const { return impl_->info; }

CrossAttentionReader * WhisperEngine::Impl::words_reader() {
    std::call_once(words_once, [this] { words = std::make_unique<CrossAttentionReader>(context); });
    return words.get();
}

// "" where it has to be detected.
std::string WhisperEngine::Impl::language_code(const WhisperOptions & options) const {
    if (options.language == "auto") {
        return info.multilingual ? "" : "en";
    }
    if (std::find(info.languages.begin(), info.languages.end(), options.language) == info.languages.end()) {
        throw Error("E_ARGUMENT", "language \"" + options.language + "\" is not one that " + path + " understands");
    }
    return options.language;
}

namespace {

// The call of transcribe() while it runs.
class Transcription {
  public:
    Transcription(whisper_context * context, const WhisperInfo & info, const WhisperOptions & options,
                  CrossAttentionReader * words, const SegmentCallback & on_segment, const std::atomic<bool> & abort,
                  std::string language)
        : info_(info), options_(options), on_segment_(on_segment), language_(std::move(language)) {
        request_.context = context;
        request_.words = words;
        request_.options = &options;
        request_.abort = &abort;
        short_context_ = info.audio_context < FULL_CONTEXT;
        // Real models are decoded as whisper.cpp's own command line does it: beams of 5, and best of 5 where the
        // temperature rises. Models of a short context are small and made for their task: greedy is enough and several
        // times faster.
        request_.beam_size = options.beam_size > 0 ? options.beam_size : short_context_ ? 1 : 5;
    }

    // The audio, and how its times relate to those of the whole.
    void hear(const float * samples, size_t n, const Timeline & timeline);

    WhisperResult result;

  private:
    void hear_stretch(const float * samples, size_t n, double begin);
    State state_of(const float * samples, size_t n) const;
    void hear_language(whisper_state * state, int audio_context);
    DecodingOutcome attempt(State & state, int audio_context, bool one_try);
    void accept(const WhisperSegment & segment);

    const WhisperInfo & info_;
    const WhisperOptions & options_;
    const SegmentCallback & on_segment_;
    std::string language_;  // "" until it is detected
    DecodingRequest request_;
    bool short_context_ = false;
    bool stretch_begins_ = true;
};

void Transcription::hear(const float * samples, size_t n, const Timeline & timeline) {
    request_.timeline = &timeline;
    if (!short_context_) {
        hear_stretch(samples, n, 0);
    } else {
        const std::vector<size_t> cuts = quiet_cuts(samples, n, size_t(info_.audio_context) * RATE / 50);
        for (size_t i = 0; i + 1 < cuts.size(); i++) {
            hear_stretch(samples + cuts[i], cuts[i + 1] - cuts[i], double(cuts[i]) / double(RATE));
        }
    }
    if (language_.empty()) {  // nothing to detect it from
        language_ = "en";
        result.language_probability = 0;
    }
    result.language = language_;
}

void Transcription::hear_stretch(const float * samples, size_t n, double begin) {
    if (n < SHORTEST) {
        return;
    }
    stretch_begins_ = true;
    State state = state_of(samples, n);
    request_.seconds = double(n) / double(RATE);
    request_.begin = begin;

    const int fitted = options_.fitted_window && !short_context_ ? fitted_context(n, info_.audio_context) : 0;
    if (fitted > 0 && fitted < info_.audio_context) {
        std::vector<WhisperSegment> segments;  // kept back: all of them may be thrown away
        const std::string before = language_;
        request_.on_segment = [&](const WhisperSegment & segment) { segments.push_back(segment); };
        const DecodingOutcome outcome = attempt(state, fitted, true);
        if (!outcome.gave_up) {
            for (const WhisperSegment & segment : segments) {
                accept(segment);
            }
            return;
        }
        result.fallbacks.push_back({outcome.fallbacks.back().start, outcome.fallbacks.back().temperature, "window"});
        language_ = before;
        state.reset();
    }
    if (!state) {
        state = state_of(samples, n);
    }
    request_.on_segment = [&](const WhisperSegment & segment) { accept(segment); };
    const DecodingOutcome outcome = attempt(state, 0, false);
    result.fallbacks.insert(result.fallbacks.end(), outcome.fallbacks.begin(), outcome.fallbacks.end());
}

// With the spectrogram of the samples in it.
State Transcription::state_of(const float * samples, size_t n) const {
    const bool chance = options_.temperature > 0 || options_.temperature_increment > 0;
    State state(
        new_state(request_.context, std::max(request_.beam_size, chance ? options_.best_of : 1), *request_.abort));
    if (!state) {
        throw Error("E_LIMIT", "not enough memory to transcribe", "Use a smaller model, or fewer calls side by side.");
    }
    if (whisper_pcm_to_mel_with_state(request_.context, state.get(), samples, int(n), options_.threads) != 0) {
        throw Error("E_LIMIT", "not enough memory for the spectrogram of the audio", "Cut it into shorter files.");
    }
    if (!short_context_) {  // a shorter window is not one of openai's models
        pad_spectrogram(state.get(), n);
    }
    return state;
}

void Transcription::hear_language(whisper_state * state, int audio_context) {
    std::vector<float> probabilities;
    LogScope log;
    if (!detect_language(request_.context, state, audio_context, options_.threads, int(info_.languages.size()),
                         probabilities)) {
        if (request_.abort->load()) {
            throw Error("E_ABORTED", "the transcription was aborted");
        }
        throw Error("E_NUMERIC", "the Whisper model cannot tell the language: " + log.complaints(),
                    "Download or convert the model again.");
    }
    const auto best = std::max_element(probabilities.begin(), probabilities.end());
    language_ = info_.languages[size_t(best - probabilities.begin())];
    result.language_probability = *best;
}

DecodingOutcome Transcription::attempt(State & state, int audio_context, bool one_try) {
    if (request_.abort->load()) {
        throw Error("E_ABORTED", "the transcription was aborted");
    }
    if (language_.empty()) {
        hear_language(state.get(), audio_context);
    }
    request_.language = language_;
    request_.audio_context = audio_context;
    request_.one_try = one_try;
    request_.state = state.release();
    struct Return {
        State & to;
        DecodingRequest & request;
        ~Return() { to.reset(request.state); }
    } back{state, request_};
    DecodingOutcome outcome = decode(request_);
    result.audio_context = audio_context > 0 ? audio_context : info_.audio_context;
    return outcome;
}

void Transcription::accept(const WhisperSegment & segment) {
    if (stretch_begins_ && !result.text.empty() && result.text.back() != ' ' && segment.text[0] != ' ') {
        result.text += ' ';  // two windows of a short context meet here
    }
    stretch_begins_ = false;
    result.text += segment.text;
    result.segments.push_back(segment);
    on_segment_(segment);
}

}  // namespace

WhisperResult WhisperEngine::transcribe(const float * samples, size_t n, const WhisperOptions & options,
                                        const SegmentCallback & on_segment, const std::atomic<bool> & abort) {
    const std::string language = impl_->language_code(options);
    check_samples(samples, n);
    Transcription transcription(impl_->context, impl_->info, options,
                                options.word_timestamps ? impl_->words_reader() : nullptr, on_segment, abort, language);
    transcription.result.audio_context = impl_->info.audio_context;
    if (options.vad_model.empty()) {
        transcription.hear(samples, n, WholeTimeline(double(n) / double(RATE)));
    } else {
        const SpeechAudio speech(samples, n, detect_speech(options.vad_model, samples, n, abort));
        transcription.hear(speech.samples().data(), speech.samples().size(), speech);
    }
    return std::move(transcription.result);
}

}  // namespace vg
