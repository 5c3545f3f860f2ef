// Speech to text over whisper.cpp.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace vg {

struct WhisperInfo {
    bool multilingual = false;
    int vocab = 0;
    int audio_context = 0;  // encoder positions, 20 ms each: the model's window
    int text_context = 0;   // tokens
    int mels = 0;
    std::string type;                    // "tiny", "base", …: whisper.cpp's name for the number of layers
    std::vector<std::string> languages;  // ISO codes the model understands
};

// Names and defaults of whisper_full_params. Ranges are the caller's to check; src/native/addon.ts has them.
struct WhisperOptions {
    static constexpr int MAX_DECODERS = 8;  // of whisper.cpp, for beams and candidates alike

    std::string language;  // an ISO code of WhisperInfo::languages, or "auto"
    int threads = 1;
    bool translate = false;
    std::string initial_prompt;
    int beam_size = 0;  // 1: greedy; 0: 5, and 1 for a model with a short context
    int best_of = 5;
    double temperature = 0;
    double temperature_increment = 0.2;
    double entropy_threshold = 2.4;
    double log_prob_threshold = -1;
    double no_speech_threshold = 0.6;
    bool fitted_window = false;
    bool word_timestamps = false;
    std::string vad_model;  // path; empty: all audio is heard
};

struct WhisperToken {
    int id = 0;
    std::string text;  // '' for part of a character that a later token completes
    double probability = 0;
    double log_prob = 0;
};

struct WhisperWord {
    std::string text;
    double start = 0;        // s
    double end = 0;          // s
    double probability = 0;  // mean of its tokens
};

struct WhisperSegment {
    double start = 0;  // s
    double end = 0;    // s
    std::string text;
    double avg_log_prob = 0;  // mean log-probability of the segment's text tokens
    double no_speech_prob = 0;
    double temperature = 0;
    std::vector<WhisperToken> tokens;
    std::vector<WhisperWord> words;  // empty without word_timestamps
};

struct WhisperFallback {
    double start = 0;  // s, of the window
    double temperature = 0;
    const char * reason = "";  // of src/native/addon.ts
};

struct WhisperResult {
    std::string text;
    std::string language;
    double language_probability = 1;
    std::vector<WhisperSegment> segments;
    std::vector<WhisperFallback> fallbacks;
    int audio_context = 0;
};

// Called on the calling thread for each segment once it is final, in order.
using SegmentCallback = std::function<void(const WhisperSegment &)>;

// One loaded model. transcribe() may run on several threads at once: the weights are only read, each call has its own
// state.
class WhisperEngine {
  public:
    // Checks the whole file first, because whisper.cpp asserts or allocates on what a damaged file says. Throws
    // E_MODEL.
    explicit WhisperEngine(const std::string & path);
    ~WhisperEngine();
    WhisperEngine(const WhisperEngine &) = delete;

    const WhisperInfo & info() const;

    // samples: 16 kHz mono in [-1, 1]; fewer than 0.1 s hold nothing. Audio longer than the window of a model with a
    // shortened one is cut at quiet places. Throws E_ARGUMENT, E_LIMIT, E_MODEL for the VAD's, E_NUMERIC, E_ABORTED.
    WhisperResult transcribe(const float * samples, size_t n, const WhisperOptions & options,
                             const SegmentCallback & on_segment, const std::atomic<bool> & abort);

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace vg
