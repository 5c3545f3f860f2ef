// What the engine needs of whisper.cpp that its public header lacks. The whole of whisper.cpp is compiled in
// whisper_internals.cpp, as its own library would compile it; no other file sees its inner structures.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <vector>

#include "whisper.h"

namespace vg {

// Cross-attention of the heads that follow the audio: weights[(head · tokens + token) · positions + position], each
// row a distribution over the encoder positions of 20 ms.
struct CrossAttention {
    int heads = 0;
    int tokens = 0;
    int positions = 0;
    std::vector<float> weights;
};

// Reads the cross-attention of a model. It shares the weights of `context`, which must outlive it. Thread-safe.
class CrossAttentionReader {
  public:
    // Heads are those that the makers of the published models found; for another model all heads of the upper half of
    // its decoder, as openai-whisper does.
    explicit CrossAttentionReader(whisper_context * context);
    ~CrossAttentionReader();
    CrossAttentionReader(const CrossAttentionReader &) = delete;

    // tokens: at most the model's text context. Over what `state` encoded last, with its audio context; whisper_full
    // may go on with the state afterwards as if nothing had been read. Throws E_INTERNAL, E_LIMIT, and E_ABORTED where
    // that is why the state computes nothing.
    CrossAttention read(whisper_state * state, const std::vector<whisper_token> & tokens, int threads,
                        const std::atomic<bool> & abort);

  private:
    std::unique_ptr<whisper_context> view_;
};

// Where speech is, [begin, end) in samples. `vad` is read from its beginning again.
struct SpeechRange {
    size_t begin = 0;
    size_t end = 0;
};

// whisper.cpp's own segmentation with its default parameters, in pieces between which `abort` is looked at: false then.
bool find_speech(whisper_vad_context * vad, const float * samples, size_t n, const std::atomic<bool> & abort,
                 std::vector<SpeechRange> & speech);

// A state whose cache of keys and values fits `decoders` side by side: whisper_full makes one of twice the size where
// it finds none, for cells that it can never come to use. Null: not enough memory.
// Throws E_INTERNAL where another device than the packed backend, or in the CUDA addon the GPU, comes first. `abort`
// must outlive the state: all that is computed on it fails at the next node of a graph once it is set.
whisper_state * new_state(whisper_context * context, int decoders, const std::atomic<bool> & abort);

// Sets the spectrogram behind its n samples at 16 kHz to 0, as openai-whisper and faster-whisper pad it. whisper.cpp
// pads the audio: silence is then the lowest level that the loudest frame leaves, and noisy speech is heard worse
// (docs/benchmarks.md).
void pad_spectrogram(whisper_state * state, size_t n);

// openai-whisper's probability that nobody speaks: of <|nospeech|> after <|startoftranscript|>, in the prompt of a
// window's first try. whisper.cpp's own is right where the prompt is <|startoftranscript|> alone. Of a longer prompt it
// has the last row of logits alone, and reads the first, where something earlier was left.
class NoSpeechProbability {
  public:
    // A state that is freed before must not be stopped any more.
    NoSpeechProbability(whisper_context * context, whisper_state * state) : context_(context), state_(state) {}
    NoSpeechProbability(const NoSpeechProbability &) = delete;

    // Before the encoder runs: the next decoding is that of the window's first prompt. Nothing more is computed: all
    // rows of its logits are in any case.
    void begin_window();
    // After the decoding of a prompt, before whisper.cpp looks at its value: gives it this one. Throws E_INTERNAL,
    // E_NUMERIC.
    void give();
    // Lets go of the state, once whisper_full is done.
    void stop();

  private:
    bool read(ggml_tensor * node, bool ask);

    whisper_context * context_;
    whisper_state * state_;
    bool listening_ = false;
    bool read_ = false;
    double probability_ = 0;
};

// The encoder's memory goes back to the system as soon as it has been used: that of the convolutions before the first
// layer, that of the layers once the decoder has run. whisper.cpp would keep both while it decodes
// (docs/benchmarks.md).
class EncoderMemory {
  public:
    // A state that is freed before must not be stopped any more.
    explicit EncoderMemory(whisper_state * state) : state_(state) {}
    EncoderMemory(const EncoderMemory &) = delete;

    // Before the encoder runs.
    void begin_window();
    // Once the decoder has run, which reads only the keys and values that were made of the encoder's output.
    void encoded();
    // Lets go of the state, once whisper_full is done.
    void stop();

  private:
    whisper_state * state_;
    bool convolved_ = false;
    bool used_ = false;
};

// Probability of each of the first n languages, by whisper.cpp's ids, over the beginning of the spectrogram in `state`.
// audio_context as in whisper_full_params. False where the computation failed or was aborted.
bool detect_language(whisper_context * context, whisper_state * state, int audio_context, int threads, int n,
                     std::vector<float> & probabilities);

}  // namespace vg
