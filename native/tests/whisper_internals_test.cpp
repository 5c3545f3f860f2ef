// What is computed on a state of whisper.cpp, with the bundled model.
#include "core/whisper_internals.h"

#include <atomic>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/packed_backend.h"
#include "core/whisper_log.h"
#include "test.h"

using namespace vg;

namespace {

struct Model {
    std::atomic<bool> abort{false};
    std::unique_ptr<whisper_context, void (*)(whisper_context *)> context{nullptr, whisper_free};
    std::unique_ptr<whisper_state, void (*)(whisper_state *)> state{nullptr, whisper_free_state};

    Model() {
        listen_to_whisper_log();
        register_packed_backend();
        whisper_context_params params = whisper_context_default_params();
        params.flash_attn = false;
        params.use_gpu = false;
        const std::string path = std::string(VOICEGRPO_SOURCE_DIR) + "/assets/models/whisper-tiny.bin";
        context.reset(whisper_init_from_file_with_params_no_state(path.c_str(), params));
        state.reset(new_state(context.get(), 2, abort));
        std::vector<float> samples(16000 * 3);
        for (size_t i = 0; i < samples.size(); i++) {
            samples[i] = 0.2f * std::sin(float(i) * float(i) * 1e-6f);
        }
        CHECK(whisper_pcm_to_mel_with_state(context.get(), state.get(), samples.data(), int(samples.size()), 1) == 0);
    }

    int encode() { return whisper_encode_with_state(context.get(), state.get(), 0, 2); }

    int decode() {
        const whisper_token start = whisper_token_sot(context.get());
        return whisper_decode_with_state(context.get(), state.get(), &start, 1, 0, 2);
    }

    bool detect() {
        std::vector<float> probabilities;
        return detect_language(context.get(), state.get(), 0, 1, 1, probabilities);
    }

    CrossAttention look() {
        CrossAttentionReader reader(context.get());
        const std::vector<whisper_token> tokens = {whisper_token_sot(context.get()), whisper_token_not(context.get()),
                                                   1000, 2000, whisper_token_eot(context.get())};
        return reader.read(state.get(), tokens, 1, abort);
    }
};

}  // namespace

// A graph that runs to its end before anybody asks would give 0 here.
TEST(whisper_graphs_stop_on_request) {
    Model model;
    CHECK(model.encode() == 0);
    CHECK(model.decode() == 0);
    CHECK(model.detect());
    CHECK(model.look().tokens == 5);
    model.abort.store(true);
    CHECK(model.encode() != 0);
    CHECK(model.decode() != 0);
    CHECK(!model.detect());
    CHECK_ERROR(model.look(), "E_ABORTED");
    model.abort.store(false);
    CHECK(model.encode() == 0 && model.decode() == 0);
    CHECK(model.look().tokens == 5);
}

TEST(whisper_cross_attention_is_a_distribution_and_repeats) {
    Model model;
    CHECK(model.encode() == 0);
    const CrossAttention first = model.look();
    CHECK(first.heads > 0 && first.positions == whisper_model_n_audio_ctx(model.context.get()));
    for (size_t row = 0; row < size_t(first.heads * first.tokens); row++) {
        double sum = 0;
        for (int p = 0; p < first.positions; p++) {
            sum += first.weights[row * size_t(first.positions) + size_t(p)];
        }
        CHECK_CLOSE(sum, 1.0, 1e-3);
    }
    // Decoding goes on with the same keys and values afterwards.
    CHECK(model.decode() == 0);
    CHECK(model.look().weights == first.weights);
    CHECK(model.encode() == 0);
    CHECK(model.look().weights == first.weights);
}

TEST(whisper_spectrogram_is_zero_behind_its_samples) {
    constexpr int FRAMES = 300, HEARD = 100;
    Model model;
    const int bands = whisper_model_n_mels(model.context.get());
    std::vector<float> sound(size_t(FRAMES * bands)), padded(sound.size());
    for (int i = 0; i < FRAMES * bands; i++) {
        sound[size_t(i)] = std::sin(0.37f * float(i));
        padded[size_t(i)] = i % FRAMES < HEARD ? sound[size_t(i)] : 0.0f;
    }
    const auto heard = [&](const std::vector<float> & mel, bool pad) {
        whisper_context * context = model.context.get();
        CHECK(whisper_set_mel_with_state(context, model.state.get(), mel.data(), FRAMES, bands) == 0);
        if (pad) {
            pad_spectrogram(model.state.get(), 160 * HEARD + 159);  // a part of a frame is none
        }
        CHECK(model.encode() == 0);
        return model.look().weights;
    };
    CHECK(heard(sound, true) == heard(padded, false));
    CHECK(heard(sound, true) != heard(sound, false));
}
