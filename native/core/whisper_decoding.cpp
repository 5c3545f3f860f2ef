#include "whisper_decoding.h"

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "error.h"
#include "whisper_alignment.h"
#include "whisper_log.h"
#include "whisper_window.h"
#include "whisper_word_times.h"
#include "whisper_words.h"

namespace vg {
namespace {

constexpr int STATE_FREED = -7;     // whisper_full's code where it has freed the state
constexpr int PROMPT_BYTES = 4096;  // see prompt_tail

// Segments of one window, before their words are known.
struct Window {
    double start = 0;                      // s in the stretch
    int frames = 0;                        // of 10 ms, from there to the end of the audio
    std::vector<WhisperSegment> segments;  // times in the stretch
};

// A segment's words before their punctuation is merged.
struct SegmentParts {
    size_t first = 0;  // of them, among the window's
    std::vector<std::string> texts;
    std::vector<TokenRange> ranges;
};

class Decoding {
  public:
    explicit Decoding(DecodingRequest & request)
        : request_(request), no_speech_(request.context, request.state), encoder_memory_(request.state),
          tries_(whisper_n_len_from_state(request.state)) {}

    DecodingOutcome run();

  private:
    whisper_full_params params();
    bool stopped() const { return stop_.load() || request_.abort->load(); }
    template <class F> void guarded(F && f);
    void take_segment(whisper_state * state, int index);
    void finish_window(whisper_state * state);
    void place(WhisperSegment & segment) const;
    void add_words(whisper_state * state, std::vector<WhisperSegment> & segments);
    double temperature(int number) const;
    bool text_rambles(const whisper_token_data * said, int n) const;

    DecodingRequest & request_;
    NoSpeechProbability no_speech_;
    EncoderMemory encoder_memory_;
    WhisperTries tries_;
    Window window_;
    double last_end_ = 0;  // s in the stretch: where the last word ended
    std::string prompt_;
    std::atomic<bool> stop_{false};
    std::atomic<bool> not_a_number_{false};
    std::atomic<bool> rambles_{false};  // one_try alone
    std::exception_ptr failure_;
};

// whisper.cpp keeps the last tokens of a prompt, half the text context at most; its tokenizer recurses for each byte of
// a long word. What cannot matter is cut off before: 4096 bytes are over 18 for each token that is kept.
std::string prompt_tail(const std::string & prompt) {
    size_t from = prompt.size() > PROMPT_BYTES ? prompt.size() - PROMPT_BYTES : 0;
    while (from < prompt.size() && from > 0 && (static_cast<unsigned char>(prompt[from]) & 0xc0) == 0x80) {
        from++;
    }
    std::string tail = prompt.substr(from);
    std::replace(tail.begin(), tail.end(), '\0', ' ');  // it is passed on as a C string
    return tail;
}

const char * reason_name(Failure failure) {
    switch (failure) {
        case Failure::repetition:
            return "repetition";
        case Failure::timestamps:
            return "timestamps";
        default:
            return "log_prob";
    }
}

double Decoding::temperature(int number) const {
    const WhisperOptions & options = *request_.options;
    // 0.2 · 3 is not 0.6.
    return std::round((options.temperature + std::max(0, number) * options.temperature_increment) * 1e6) / 1e6;
}

bool Decoding::text_rambles(const whisper_token_data * said, int n) const {
    std::vector<int> tokens;
    for (int i = 0; i < n; i++) {
        if (said[i].id < whisper_token_eot(request_.context)) {
            tokens.push_back(said[i].id);
        }
    }
    return rambles(tokens.data(), tokens.size(), request_.seconds);
}

// No exception may cross whisper.cpp: it would not free what it holds.
template <class F> void Decoding::guarded(F && f) {
    if (failure_) {
        return;
    }
    try {
        f();
    } catch (...) {
        failure_ = std::current_exception();
        stop_.store(true);
    }
}

whisper_full_params Decoding::params() {
    const WhisperOptions & options = *request_.options;
    whisper_full_params params =
        whisper_full_default_params(request_.beam_size > 1 ? WHISPER_SAMPLING_BEAM_SEARCH : WHISPER_SAMPLING_GREEDY);
    params.greedy.best_of = options.best_of;
    params.beam_search.beam_size = request_.beam_size;
    params.n_threads = options.threads;
    params.language = request_.language.c_str();
    params.translate = options.translate;
    params.audio_ctx = request_.audio_context;
    params.temperature = float(options.temperature);
    params.temperature_inc = float(options.temperature_increment);
    params.entropy_thold = float(options.entropy_threshold);
    params.logprob_thold = float(options.log_prob_threshold);
    params.no_speech_thold = float(options.no_speech_threshold);
    if (request_.one_try) {
        // whisper.cpp judges a try only where another one follows: here always one does.
        params.temperature_inc = (1.0f + 1e-6f - params.temperature) / 2;
    }
    prompt_ = prompt_tail(options.initial_prompt);
    params.initial_prompt = prompt_.empty() ? nullptr : prompt_.c_str();
    params.no_context = true;
    params.print_progress = false;
    params.print_timestamps = false;

    params.new_segment_callback = [](whisper_context *, whisper_state * state, int n_new, void * self) {
        auto & decoding = *static_cast<Decoding *>(self);
        decoding.guarded([&] {
            const int n = whisper_full_n_segments_from_state(state);
            for (int i = n - n_new; i < n; i++) {
                decoding.take_segment(state, i);
            }
        });
    };
    // Called before each window and after the last one.
    params.progress_callback = [](whisper_context *, whisper_state * state, int, void * self) {
        auto & decoding = *static_cast<Decoding *>(self);
        decoding.guarded([&] { decoding.finish_window(state); });
    };
    params.encoder_begin_callback = [](whisper_context *, whisper_state *, void * self) {
        auto & decoding = *static_cast<Decoding *>(self);
        if (decoding.stopped()) {
            return false;
        }
        decoding.no_speech_.begin_window();
        decoding.encoder_memory_.begin_window();
        return true;
    };
    params.abort_callback = [](void * self) {
        auto & decoding = *static_cast<Decoding *>(self);
        if (decoding.request_.one_try && (decoding.rambles_.load() || !decoding.tries_.failed().empty())) {
            return true;
        }
        return decoding.stopped();
    };
    // On several threads at once, but for the first token of a try. NaN would leave whisper.cpp's sorts without an
    // order.
    params.logits_filter_callback = [](whisper_context * context, whisper_state *, const whisper_token_data * said,
                                       int n_said, float * logits, void * self) {
        auto & decoding = *static_cast<Decoding *>(self);
        if (n_said == 0) {
            decoding.guarded([&] { decoding.no_speech_.give(); });
            decoding.encoder_memory_.encoded();
        }
        if (decoding.request_.one_try && decoding.text_rambles(said, n_said)) {
            decoding.rambles_.store(true);
        }
        const int n = whisper_n_vocab(context);
        bool bad = false;
        for (int i = 0; i < n; i++) {
            bad |= !(logits[i] <= FLT_MAX);
        }
        if (bad) {
            std::fill_n(logits, n, 0.0f);
            decoding.not_a_number_.store(true);
            decoding.stop_.store(true);
        }
    };
    params.new_segment_callback_user_data = this;
    params.progress_callback_user_data = this;
    params.encoder_begin_callback_user_data = this;
    params.abort_callback_user_data = this;
    params.logits_filter_callback_user_data = this;
    return params;
}

void Decoding::take_segment(whisper_state * state, int index) {
    if (window_.segments.empty()) {
        // The last frame may reach over the end of the audio.
        window_.start = std::min(double(tries_.window_start()) * 0.01, request_.seconds);
        window_.frames = int(whisper_n_len_from_state(state) - tries_.window_start());
    }
    WhisperSegment segment;
    // A model without timestamps gives a start before the window.
    segment.start = std::clamp(double(whisper_full_get_segment_t0_from_state(state, index)) * 0.01, window_.start,
                               request_.seconds);
    segment.end = std::clamp(double(whisper_full_get_segment_t1_from_state(state, index)) * 0.01, segment.start,
                             request_.seconds);
    segment.no_speech_prob = whisper_full_get_segment_no_speech_prob_from_state(state, index);
    segment.temperature = temperature(tries_.current());

    std::vector<std::string> bytes;
    double sum = 0;
    for (int t = 0, n = whisper_full_n_tokens_from_state(state, index); t < n; t++) {
        const whisper_token_data token = whisper_full_get_token_data_from_state(state, index, t);
        if (token.id < whisper_token_eot(request_.context)) {
            bytes.emplace_back(whisper_token_to_str(request_.context, token.id));
            segment.tokens.push_back({token.id, "", token.p, token.plog});
            sum += token.plog;
        }
    }
    segment.avg_log_prob = bytes.empty() ? 0 : sum / double(bytes.size());
    const std::vector<std::string> texts = token_texts(bytes);
    for (size_t t = 0; t < texts.size(); t++) {
        segment.tokens[t].text = texts[t];
        segment.text += texts[t];
    }
    window_.segments.push_back(std::move(segment));
}

void Decoding::finish_window(whisper_state * state) {
    std::vector<WhisperSegment> segments = std::move(window_.segments);
    window_.segments.clear();
    if (request_.words && !stopped()) {
        add_words(state, segments);
    }
    for (WhisperSegment & segment : segments) {
        if (stopped()) {
            return;
        }
        place(segment);
        request_.on_segment(segment);
    }
}

// In the whole audio: a segment holds its words, wherever speech that was cut together puts them.
void Decoding::place(WhisperSegment & segment) const {
    const double begin = request_.begin;
    const TimeRange whole = request_.timeline->segment({begin + segment.start, begin + segment.end});
    segment.start = whole.start;
    segment.end = whole.end;
    for (WhisperWord & word : segment.words) {
        const TimeRange range = request_.timeline->word({begin + word.start, begin + word.end});
        word.start = range.start;
        word.end = range.end;
    }
    if (!segment.words.empty()) {
        segment.start = std::min(segment.start, segment.words.front().start);
        segment.end = std::max(segment.end, segment.words.back().end);
    }
}

void Decoding::add_words(whisper_state * state, std::vector<WhisperSegment> & segments) {
    whisper_context * context = request_.context;
    std::vector<whisper_token> tokens = {whisper_token_sot(context)};
    if (whisper_is_multilingual(context)) {
        tokens.push_back(whisper_token_lang(context, whisper_lang_id(request_.language.c_str())));
        tokens.push_back(request_.options->translate ? whisper_token_translate(context)
                                                     : whisper_token_transcribe(context));
    }
    const int prompt = int(tokens.size());
    tokens.push_back(whisper_token_not(context));
    for (const WhisperSegment & segment : segments) {
        for (const WhisperToken & token : segment.tokens) {
            tokens.push_back(token.id);
        }
    }
    if (int(tokens.size()) == prompt + 1) {
        return;
    }
    tokens.push_back(whisper_token_eot(context));
    const std::vector<int> at = align_tokens(
        request_.words->read(state, tokens, request_.options->threads, *request_.abort), prompt, window_.frames / 2);

    std::vector<TimedPart> parts;
    std::vector<SegmentParts> of_segments;
    size_t first = 0;  // of the segment's tokens, among the window's
    for (const WhisperSegment & segment : segments) {
        SegmentParts own;
        own.first = parts.size();
        for (const WhisperToken & token : segment.tokens) {
            own.texts.push_back(token.text);
        }
        own.ranges = split_words(own.texts, request_.language);
        for (const TokenRange & range : own.ranges) {
            parts.push_back({joined(own.texts, range), window_.start + 0.02 * at.at(first + range.begin),
                             window_.start + 0.02 * at.at(first + range.end)});
        }
        of_segments.push_back(std::move(own));
        first += segment.tokens.size();
    }
    const double median = median_duration(parts);
    shorten_at_sentence_ends(parts, median);

    for (size_t s = 0; s < segments.size(); s++) {
        WhisperSegment & segment = segments[s];
        const SegmentParts & own = of_segments[s];
        const std::vector<MergedWord> merged = merge_punctuation(own.texts, own.ranges);
        std::vector<TimedPart> timed;
        for (const MergedWord & word : merged) {
            const TimedPart & part = parts[own.first + word.word];
            timed.push_back({joined(own.texts, word.tokens), part.start, part.end});
        }
        shorten_at_segment_ends(timed, median, last_end_, segment.start, segment.end);
        for (size_t w = 0; w < merged.size(); w++) {
            const TokenRange & range = merged[w].tokens;
            WhisperWord word;
            word.text = timed[w].text;
            for (size_t t = range.begin; t < range.end; t++) {
                word.probability += segment.tokens[t].probability / double(range.end - range.begin);
            }
            word.start = std::clamp(std::max(timed[w].start, last_end_), segment.start, segment.end);
            word.end = std::clamp(timed[w].end, word.start, segment.end);
            last_end_ = word.end;
            segment.words.push_back(std::move(word));
        }
    }
}

DecodingOutcome Decoding::run() {
    LogScope log(&tries_);
    // Without samples whisper_full takes the spectrogram that is in the state.
    const int code = whisper_full_with_state(request_.context, request_.state, params(), nullptr, 0);
    if (code == STATE_FREED) {
        request_.state = nullptr;
    } else {
        no_speech_.stop();
        encoder_memory_.stop();
    }
    if (failure_) {
        std::rethrow_exception(failure_);
    }
    if (request_.abort->load()) {
        throw Error("E_ABORTED", "the transcription was aborted");
    }
    if (not_a_number_.load()) {
        throw Error("E_NUMERIC", "the Whisper model computes numbers that are not finite",
                    "Download or convert the model again.");
    }
    DecodingOutcome outcome;
    for (const FailedTry & failed : tries_.failed()) {
        const double start = request_.begin + double(failed.start) * 0.01;
        outcome.fallbacks.push_back(
            {request_.timeline->word({start, start}).start, temperature(failed.number), reason_name(failed.reason)});
    }
    if (rambles_.load() && outcome.fallbacks.empty()) {
        const double start = request_.begin + double(tries_.window_start()) * 0.01;
        outcome.fallbacks.push_back(
            {request_.timeline->word({start, start}).start, temperature(0), reason_name(Failure::repetition)});
    }
    outcome.gave_up = request_.one_try && !outcome.fallbacks.empty();
    if (code == STATE_FREED) {
        throw Error("E_LIMIT", "not enough memory for " + std::to_string(request_.beam_size) + " beams",
                    "Use a smaller model or fewer beams.");
    }
    if (code != 0 && !outcome.gave_up) {
        throw Error("E_INTERNAL", "whisper.cpp failed with code " + std::to_string(code) + ": " + log.complaints());
    }
    return outcome;
}

}  // namespace

DecodingOutcome decode(DecodingRequest & request) { return Decoding(request).run(); }

}  // namespace vg
