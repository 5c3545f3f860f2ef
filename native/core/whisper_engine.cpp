#include "whisper_engine.h"

#include <algorithm>
#include <cmath>
#include <mutex>

#include "error.h"
#include "ggml.h"
#include "whisper.h"
#include "whisper_file.h"

namespace vg {
namespace {

constexpr size_t RATE = WHISPER_SAMPLE_RATE;
constexpr int FULL_CONTEXT = 1500;  // 30 s; whisper.cpp steps through longer audio in pieces of this length

// whisper.cpp and ggml log through one callback for the process. What they say on a thread is kept for that thread's
// error.
thread_local std::string * log_sink = nullptr;

void keep_log(ggml_log_level level, const char * text, void *) {
    if (log_sink && (level == GGML_LOG_LEVEL_ERROR || level == GGML_LOG_LEVEL_WARN)) {
        *log_sink += text;
    }
}

struct LogScope {
    std::string text;
    LogScope() { log_sink = &text; }
    ~LogScope() { log_sink = nullptr; }
};

std::string one_line(std::string text) {
    while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) {
        text.pop_back();
    }
    std::replace(text.begin(), text.end(), '\n', ';');
    return text;
}

struct StateDeleter {
    void operator()(whisper_state * state) const { whisper_free_state(state); }
};

// Where to cut audio that is longer than `window`: at the quietest 100 ms of the last 40% of each window.
std::vector<size_t> cut_points(const float * samples, size_t n, size_t window) {
    std::vector<size_t> cuts = {0};
    const size_t frame = RATE / 10, hop = RATE / 100;
    while (n - cuts.back() > window) {
        size_t begin = cuts.back() + window * 6 / 10, end = cuts.back() + window - frame;
        size_t best = end;
        double quietest = INFINITY;
        for (size_t at = begin; at <= end; at += hop) {
            double energy = 0;
            for (size_t i = at; i < at + frame; i++) {
                energy += double(samples[i]) * samples[i];
            }
            if (energy < quietest) {
                quietest = energy;
                best = at;
            }
        }
        cuts.push_back(best + frame / 2);
    }
    cuts.push_back(n);
    return cuts;
}

}  // namespace

struct WhisperEngine::Impl {
    whisper_context * context = nullptr;
    WhisperInfo info;
    std::string path;

    ~Impl() { whisper_free(context); }

    void run(const float * samples, size_t n, size_t offset, const whisper_full_params & params,
             const std::atomic<bool> & abort, WhisperResult & result);
};

WhisperEngine::WhisperEngine(const std::string & path) : impl_(std::make_unique<Impl>()) {
    static std::once_flag logging;
    std::call_once(logging, [] { whisper_log_set(keep_log, nullptr); });

    MappedFile file(path);
    check_whisper_file(file);
    LogScope log;
    // From the checked bytes, not from the path again: the file could have changed in between.
    impl_->context = whisper_init_from_buffer_with_params_no_state(const_cast<uint8_t *>(file.data()), file.size(),
                                                                   whisper_context_default_params());
    if (!impl_->context) {
        throw Error("E_MODEL", path + ": whisper.cpp cannot load the model: " + one_line(log.text),
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

void WhisperEngine::Impl::run(const float * samples, size_t n, size_t offset, const whisper_full_params & params,
                              const std::atomic<bool> & abort, WhisperResult & result) {
    LogScope log;
    // A new state for each run: one that is used again carries its random generator on, and the text would depend on
    // order.
    std::unique_ptr<whisper_state, StateDeleter> state(whisper_init_state(context));
    if (!state) {
        throw Error("E_LIMIT", "not enough memory for the Whisper model " + path, "Use a smaller model.");
    }
    int code = whisper_full_with_state(context, state.get(), params, samples, int(n));
    if (abort.load()) {
        throw Error("E_ABORTED", "the transcription was aborted");
    }
    if (code != 0) {
        throw Error("E_INTERNAL", "whisper.cpp failed with code " + std::to_string(code) + ": " + one_line(log.text));
    }
    double begin = double(offset) / double(RATE);
    int segments = whisper_full_n_segments_from_state(state.get());
    for (int i = 0; i < segments; i++) {
        WhisperSegment segment;
        // A model without timestamps gives a negative start.
        const int64_t t0 = std::max(int64_t{0}, whisper_full_get_segment_t0_from_state(state.get(), i));
        segment.start = begin + double(t0) * 0.01;
        segment.end = begin + double(whisper_full_get_segment_t1_from_state(state.get(), i)) * 0.01;
        segment.end = std::min(segment.end, begin + double(n) / double(RATE));
        segment.text = whisper_full_get_segment_text_from_state(state.get(), i);
        segment.no_speech_prob = whisper_full_get_segment_no_speech_prob_from_state(state.get(), i);
        int tokens = whisper_full_n_tokens_from_state(state.get(), i), counted = 0;
        for (int t = 0; t < tokens; t++) {
            whisper_token_data token = whisper_full_get_token_data_from_state(state.get(), i, t);
            if (token.id < whisper_token_eot(context)) {
                segment.avg_log_prob += token.plog;
                counted++;
            }
        }
        segment.avg_log_prob = counted > 0 ? segment.avg_log_prob / counted : 0;
        if (!result.text.empty() && !segment.text.empty() && segment.text[0] != ' ' && result.text.back() != ' ' &&
            i == 0) {
            result.text += ' ';  // two windows meet here
        }
        result.text += segment.text;
        result.segments.push_back(std::move(segment));
    }
    result.language = whisper_lang_str(std::max(0, whisper_full_lang_id_from_state(state.get())));
}

WhisperResult WhisperEngine::transcribe(const float * samples, size_t n, const std::string & language, bool translate,
                                        int threads, const std::atomic<bool> & abort) {
    const WhisperInfo & info = impl_->info;
    bool automatic = language == "auto";
    if (!automatic && std::find(info.languages.begin(), info.languages.end(), language) == info.languages.end()) {
        throw Error("E_ARGUMENT", "language \"" + language + "\" is not one that " + impl_->path + " understands");
    }
    if (n > size_t(INT32_MAX)) {
        throw Error("E_LIMIT", "the audio is longer than a day", "Cut it into shorter files.");
    }
    std::string code = automatic && !info.multilingual ? "en" : language;
    // Real models are decoded as whisper.cpp's own command line does it: beams of 5, and best of 5 where the
    // temperature rises. Models of a short context are small and made for their task: greedy is enough and several
    // times faster.
    whisper_full_params params = whisper_full_default_params(
        info.audio_context >= FULL_CONTEXT ? WHISPER_SAMPLING_BEAM_SEARCH : WHISPER_SAMPLING_GREEDY);
    params.greedy.best_of = 5;
    params.n_threads = threads;
    params.language = code.c_str();
    params.translate = translate;
    params.no_context = true;
    params.print_progress = false;
    params.print_realtime = false;
    params.print_timestamps = false;
    params.print_special = false;
    params.abort_callback = [](void * flag) { return static_cast<const std::atomic<bool> *>(flag)->load(); };
    params.abort_callback_user_data = const_cast<std::atomic<bool> *>(&abort);

    WhisperResult result;
    if (info.audio_context >= FULL_CONTEXT) {
        impl_->run(samples, n, 0, params, abort, result);
        return result;
    }
    std::vector<size_t> cuts = cut_points(samples, n, size_t(info.audio_context) * RATE / 50);
    for (size_t i = 0; i + 1 < cuts.size(); i++) {
        impl_->run(samples + cuts[i], cuts[i + 1] - cuts[i], cuts[i], params, abort, result);
    }
    return result;
}

}  // namespace vg
