// whisper.cpp says why it throws a try away in its debug log alone, which this definition switches on. Its static
// functions and macros are for this file, so no other may be compiled together with it (CMakeLists.txt).
#define WHISPER_DEBUG

#include "whisper.cpp"

#include "error.h"
#include "memory_pages.h"
#include "packed_backend.h"
#include "whisper_internals.h"

namespace vg {
namespace {

struct KnownHeads {
    int layers;  // of the decoder
    bool multilingual;
    int mels;
    int encoder_layers;
    whisper_alignment_heads_preset preset;
};

// Large v1 and v2 cannot be told apart by their shape; v2 is the one in use.
constexpr KnownHeads KNOWN_HEADS[] = {
    {4, false, 80, 4, WHISPER_AHEADS_TINY_EN},         {4, true, 80, 4, WHISPER_AHEADS_TINY},
    {6, false, 80, 6, WHISPER_AHEADS_BASE_EN},         {6, true, 80, 6, WHISPER_AHEADS_BASE},
    {12, false, 80, 12, WHISPER_AHEADS_SMALL_EN},      {12, true, 80, 12, WHISPER_AHEADS_SMALL},
    {24, false, 80, 24, WHISPER_AHEADS_MEDIUM_EN},     {24, true, 80, 24, WHISPER_AHEADS_MEDIUM},
    {32, true, 80, 32, WHISPER_AHEADS_LARGE_V2},       {32, true, 128, 32, WHISPER_AHEADS_LARGE_V3},
    {4, true, 128, 32, WHISPER_AHEADS_LARGE_V3_TURBO},
};

// The published heads count only where the model has the published width: other models of as many layers exist.
whisper_alignment_heads_preset known_heads(whisper_context & context) {
    const whisper_hparams & h = context.model.hparams;
    for (const KnownHeads & known : KNOWN_HEADS) {
        if (known.layers != h.n_text_layer || known.encoder_layers != h.n_audio_layer || known.mels != h.n_mels ||
            known.multilingual != context.vocab.is_multilingual() || h.n_audio_ctx != 1500 ||
            h.n_text_state != h.n_text_head * 64) {
            continue;
        }
        const whisper_aheads & heads = g_aheads.at(known.preset);
        if (std::all_of(heads.heads, heads.heads + heads.n_heads,
                        [&](const whisper_ahead & head) { return head.n_head < h.n_text_head; })) {
            return known.preset;
        }
    }
    return WHISPER_AHEADS_N_TOP_MOST;
}

void return_buffer(ggml_backend_buffer_t buffer) {
    if (buffer && ggml_backend_buffer_is_host(buffer)) {
        return_pages(ggml_backend_buffer_get_base(buffer), ggml_backend_buffer_get_size(buffer));
    }
}

// Of all that the graph of `tensor` computed.
void return_graph(const ggml_tensor * tensor) {
    return_buffer(tensor->view_src ? tensor->view_src->buffer : tensor->buffer);
}

}  // namespace

CrossAttentionReader::CrossAttentionReader(whisper_context * context) : view_(new whisper_context) {
    view_->wtype = context->wtype;
    view_->itype = context->itype;
    view_->params = context->params;
    view_->model = context->model;  // pointers to the same tensors
    view_->vocab.n_vocab = context->vocab.n_vocab;
    view_->params.dtw_token_timestamps = true;
    view_->params.dtw_aheads_preset = known_heads(*context);
    view_->params.dtw_n_top = std::max(1, context->model.hparams.n_text_layer / 2);
}

CrossAttentionReader::~CrossAttentionReader() = default;

CrossAttention CrossAttentionReader::read(whisper_state * state, const std::vector<whisper_token> & tokens, int threads,
                                          const std::atomic<bool> & abort) {
    whisper_context & view = *view_;
    if (tokens.empty() || int(tokens.size()) > view.model.hparams.n_text_ctx) {
        throw Error("E_INTERNAL", "the alignment of " + std::to_string(tokens.size()) + " tokens was asked for");
    }
    if (state->aheads_masks.m.empty() &&
        !aheads_masks_init(view.params, view.model.hparams, state->aheads_masks, state->backends[0])) {
        throw Error("E_LIMIT", "not enough memory for the alignment of words");
    }

    whisper_kv_cache_clear(state->kv_self);
    whisper_batch_prep_legacy(state->batch, tokens.data(), int(tokens.size()), 0, 0);
    const bool good = whisper_decode_internal(view, *state, state->batch, threads, true, nullptr, nullptr);
    CrossAttention result;
    if (good) {
        const ggml_tensor * weights = state->aheads_cross_QKs;  // [tokens, positions, heads]
        result.tokens = int(weights->ne[0]);
        result.positions = int(weights->ne[1]);
        result.heads = int(weights->ne[2]);
        std::vector<float> read(ggml_nelements(weights));
        ggml_backend_tensor_get(weights, read.data(), 0, read.size() * sizeof(float));
        result.weights.resize(read.size());
        const size_t n = size_t(result.tokens), m = size_t(result.positions);
        for (size_t h = 0; h < size_t(result.heads); h++) {
            for (size_t p = 0; p < m; p++) {
                for (size_t t = 0; t < n; t++) {
                    result.weights[(h * n + t) * m + p] = read[(h * m + p) * n + t];
                }
            }
        }
    }
    state->aheads_cross_QKs = nullptr;
    if (abort.load()) {
        throw Error("E_ABORTED", "the transcription was aborted");
    }
    if (!good) {
        throw Error("E_INTERNAL", "whisper.cpp could not compute the alignment of words");
    }
    return result;
}

bool find_speech(whisper_vad_context * vad, const float * samples, size_t n, const std::atomic<bool> & abort,
                 std::vector<SpeechRange> & speech) {
    const size_t piece = size_t(vad->n_window) * 1000;
    std::vector<float> probabilities;
    whisper_vad_reset_state(vad);
    for (size_t at = 0; at < n; at += piece) {
        if (abort.load()) {
            return false;
        }
        if (!whisper_vad_detect_speech_no_reset(vad, samples + at, int(std::min(piece, n - at)))) {
            throw Error("E_LIMIT", "not enough memory for the detection of speech");
        }
        probabilities.insert(probabilities.end(), vad->probs.begin(), vad->probs.end());
    }
    vad->probs = std::move(probabilities);
    std::unique_ptr<whisper_vad_segments, void (*)(whisper_vad_segments *)> segments(
        whisper_vad_segments_from_probs(vad, whisper_vad_default_params()), whisper_vad_free_segments);
    if (!segments) {
        throw Error("E_LIMIT", "not enough memory for the detection of speech");
    }
    for (const whisper_vad_segment & segment : segments->data) {
        speech.push_back({size_t(cs_to_samples(segment.start)), size_t(cs_to_samples(segment.end))});
    }
    return true;
}

whisper_state * new_state(whisper_context * context, int decoders, const std::atomic<bool> & abort) {
    whisper_state * state = whisper_init_state(context);
    if (!state) {
        return nullptr;
    }
    ggml_backend_t first = state->backends.front();
#ifdef VOICEGRPO_CUDA
    // Compiled, not run. whisper.cpp goes on without a word on the CPU where it cannot open the GPU.
    const bool expected = ggml_backend_dev_type(ggml_backend_get_device(first)) == GGML_BACKEND_DEVICE_TYPE_GPU;
    const char * wanted = "the GPU";
#else
    // Another device in front would cut the graphs into parts, and attention with them.
    const bool expected = is_packed_backend(first);
    const char * wanted = "the packed backend";
#endif
    if (!expected) {
        const std::string name = ggml_backend_name(first);
        whisper_free_state(state);
        throw Error("E_INTERNAL", "whisper.cpp computes on " + name + " before " + wanted);
    }
    // whisper.cpp itself asks only between one graph and the next.
    for (ggml_backend_t backend : state->backends) {
        auto * set_abort_callback =
            reinterpret_cast<ggml_backend_set_abort_callback_t>(ggml_backend_reg_get_proc_address(
                ggml_backend_dev_backend_reg(ggml_backend_get_device(backend)), "ggml_backend_set_abort_callback"));
        if (set_abort_callback) {
            set_abort_callback(
                backend, [](void * flag) { return static_cast<const std::atomic<bool> *>(flag)->load(); },
                const_cast<std::atomic<bool> *>(&abort));
        }
    }
    if (decoders <= 1) {
        return state;
    }
    // A slot is the first that is free, so no cell is used behind as many as were ever asked for: the prompt's once,
    // and one for each decoder and token.
    const whisper_hparams & h = context->model.hparams;
    const int cells = GGML_PAD(h.n_text_ctx / 2 + 8 + decoders * (h.n_text_ctx / 2), 256);
    whisper_kv_cache_free(state->kv_self);
    state->kv_self.buffer = nullptr;
    if (!whisper_kv_cache_init(state->kv_self, state->backends[0], context->itype, h.n_text_state, h.n_text_layer,
                               std::max(cells, GGML_PAD(h.n_text_ctx, 256)))) {
        whisper_free_state(state);
        return nullptr;
    }
    state->kv_self_n_dec = decoders;
    return_buffer(state->kv_self.buffer);  // zeros, most of them for tokens that are never said
    return state;
}

void pad_spectrogram(whisper_state * state, size_t n) {
    whisper_mel & mel = state->mel;
    const int frames = std::min(int(n / WHISPER_HOP_LENGTH), mel.n_len);
    for (int band = 0; band < mel.n_mel; band++) {
        float * row = mel.data.data() + size_t(band) * size_t(mel.n_len);
        std::fill(row + frames, row + mel.n_len, 0.0f);
    }
}

void NoSpeechProbability::begin_window() {
    read_ = false;
    listening_ = true;
    ggml_backend_sched_set_eval_callback(
        state_->sched_decode.sched,
        [](ggml_tensor * node, bool ask, void * self) {
            return static_cast<NoSpeechProbability *>(self)->read(node, ask);
        },
        this);
}

// ggml asks of each node whether it shall stop behind it, and comes again when it has.
bool NoSpeechProbability::read(ggml_tensor * node, bool ask) {
    const whisper_batch & batch = state_->batch;
    const int64_t n = context_->model.hparams.n_vocab;
    const bool logits = node->ne[0] == n && node->ne[1] == batch.n_tokens;
    if (ask || !logits) {
        return logits;
    }
    int start = batch.n_tokens - 1;
    while (start >= 0 && batch.token[start] != context_->vocab.token_sot) {
        start--;
    }
    if (start >= 0) {
        std::vector<float> row(static_cast<size_t>(n));
        ggml_backend_tensor_get(node, row.data(), size_t(start) * node->nb[1], row.size() * sizeof(float));
        const float highest = *std::max_element(row.begin(), row.end());
        double sum = 0;
        for (float logit : row) {
            sum += std::exp(double(logit - highest));
        }
        probability_ = std::exp(double(row[size_t(context_->vocab.token_nosp)] - highest)) / sum;
        read_ = true;
    }
    return true;
}

void NoSpeechProbability::give() {
    stop();
    if (!read_) {
        throw Error("E_INTERNAL", "the logits after <|startoftranscript|> were not computed");
    }
    if (!std::isfinite(probability_)) {
        throw Error("E_NUMERIC", "the Whisper model computes numbers that are not finite",
                    "Download or convert the model again.");
    }
    state_->no_speech_prob = float(probability_);
}

void NoSpeechProbability::stop() {
    if (listening_) {
        ggml_backend_sched_set_eval_callback(state_->sched_decode.sched, nullptr, nullptr);
        listening_ = false;
    }
}

void EncoderMemory::begin_window() {
    convolved_ = false;
    used_ = true;
    ggml_backend_sched_set_eval_callback(
        state_->sched_encode.sched,
        [](ggml_tensor * node, bool ask, void * self) {
            auto & memory = *static_cast<EncoderMemory *>(self);
            if (ask) {  // the first copy is of what the convolutions gave, transposed
                return !memory.convolved_ && node->op == GGML_OP_CONT;
            }
            memory.convolved_ = true;
            return_graph(memory.state_->embd_conv);
            return true;
        },
        this);
}

void EncoderMemory::encoded() {
    if (used_) {
        used_ = false;
        return_graph(state_->embd_enc);
    }
}

void EncoderMemory::stop() { ggml_backend_sched_set_eval_callback(state_->sched_encode.sched, nullptr, nullptr); }

bool detect_language(whisper_context * context, whisper_state * state, int audio_context, int threads, int n,
                     std::vector<float> & probabilities) {
    state->exp_n_audio_ctx = audio_context;
    const whisper_token start = whisper_token_sot(context);
    if (whisper_encode_with_state(context, state, 0, threads) != 0 ||
        whisper_decode_with_state(context, state, &start, 1, 0, threads) != 0) {
        return false;
    }
    probabilities.resize(size_t(n));
    const float * logits = state->logits.data() + whisper_token_lang(context, 0);
    const float highest = *std::max_element(logits, logits + n);
    double sum = 0;
    for (int i = 0; i < n; i++) {
        probabilities[size_t(i)] = std::exp(logits[i] - highest);
        sum += probabilities[size_t(i)];
    }
    for (float & probability : probabilities) {
        probability = float(probability / sum);
    }
    return std::isfinite(sum);
}

}  // namespace vg
