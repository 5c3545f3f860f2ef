// Speech to text over whisper.cpp.
#pragma once

#include <atomic>
#include <cstddef>
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

struct WhisperSegment {
    double start = 0;  // s
    double end = 0;    // s
    std::string text;
    double avg_log_prob = 0;  // mean log-probability of the segment's text tokens
    double no_speech_prob = 0;
};

struct WhisperResult {
    std::string text;
    std::string language;
    std::vector<WhisperSegment> segments;
};

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

    // samples: 16 kHz mono in [-1, 1]. language: an ISO code of info().languages, or "auto". Greedy, with whisper's own
    // fallback to higher temperatures. Audio longer than the window of a model with a shortened one is cut at quiet
    // places.
    WhisperResult transcribe(const float * samples, size_t n, const std::string & language, bool translate, int threads,
                             const std::atomic<bool> & abort);

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace vg
