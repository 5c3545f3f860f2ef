// The policy: a Gemma 3 model with its tokenizer, sampling, log-probabilities and GRPO gradients for a LoRA adapter.
// Array shapes as in src/native/addon.ts: B prompts, G completions of each, N = B·G, L the longest completion.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine.h"
#include "gemma3.h"
#include "gemma3_forward.h"
#include "grpo_loss.h"
#include "head.h"
#include "kept_pass.h"
#include "kv_cache.h"
#include "lora.h"
#include "packed_batch.h"
#include "rope.h"
#include "sampler.h"
#include "tape.h"
#include "tokenizer.h"

namespace vg {

enum Finish : uint8_t { FINISH_LENGTH = 0, FINISH_STOP_TOKEN = 1, FINISH_STOP_STRING = 2 };

struct RolloutRequest {
    Lora * lora = nullptr;
    std::vector<int32_t> prompt_tokens;   // [sum of P]
    std::vector<int32_t> prompt_lengths;  // [B]
    int64_t n_generations = 1;            // G: sampled ones, and after them the given ones
    int64_t max_length = 1;
    std::vector<int32_t> answers;         // tokens of the given completions, one after another
    std::vector<int32_t> answer_lengths;  // of each
    SamplerOptions sampler;
    std::vector<int32_t> stop_tokens;
    std::vector<std::string> stop_strings;
    uint64_t seed = 0;
    uint32_t step = 0;
    std::vector<uint32_t> prompt_keys;  // [B]
    bool force_length = false;
    bool keep = false;  // for accumulate_gradient()

    int64_t n_sampled() const { return n_generations - int64_t(answer_lengths.size()); }
};

struct RolloutResult {
    std::vector<int32_t> tokens;                     // [N, L]
    std::vector<int32_t> lengths;                    // [N]
    std::vector<float> log_probs;                    // [N, L]
    std::vector<uint8_t> finish;                     // [N]
    std::vector<std::string> texts;                  // [N]
    double prefill_seconds = 0, decode_seconds = 0;  // without the next two
    double head_seconds = 0, sample_seconds = 0;
    Engine::WorkSeconds work = {};  // of the passes
};

struct PackedRequest {
    Lora * lora = nullptr;
    std::vector<int32_t> prompt_tokens, prompt_lengths;
    int64_t n_generations = 1;
    std::vector<int32_t> tokens;   // [N, L]
    std::vector<int32_t> lengths;  // [N]
    int64_t max_length = 1;
    double temperature = 1;
};

struct LogProbResult {
    std::vector<float> log_probs;  // [N, L]
    std::vector<float> entropies;  // [N, L]
};

struct GradientRequest : PackedRequest {
    std::vector<float> advantages;     // [N]
    std::vector<float> weights;        // [N]
    std::vector<float> old_log_probs;  // [N, L] or empty
    std::vector<float> ref_log_probs;  // [N, L] or empty
    GrpoOptions loss;
};

struct GradientResult : LogProbResult {
    double loss = 0, kl = 0, clip_low = 0, clip_high = 0, ratio_mean = 0, ratio_max = 0;
    double active = 0;         // tokens that the loss counts
    int64_t kept_prompts = 0;  // whose activations were the rollout's
    double forward_seconds = 0, head_seconds = 0, backward_seconds = 0;
    Engine::WorkSeconds work = {};  // of the passes
};

class Policy {
  public:
    Policy(const std::string & path, const std::string & type, int threads);
    ~Policy();

    const Gemma3Params & params() const { return model_->params(); }
    const Gemma3 & model() const { return *model_; }
    const Tokenizer & tokenizer() const { return *tokenizer_; }
    const std::string & chat_template() const { return chat_template_; }  // empty when the file has none
    std::string token_text(int32_t token) const;

    std::unique_ptr<Lora> create_adapter(int rank, float alpha, const std::vector<std::string> & targets,
                                         uint64_t seed);

    // One call at a time runs; others wait. All throw E_ARGUMENT, E_LIMIT, E_NUMERIC or E_ABORTED.
    RolloutResult rollout(const RolloutRequest & request, const AbortFlag * abort);
    LogProbResult log_probs(const PackedRequest & request, const AbortFlag * abort);
    GradientResult accumulate_gradient(const GradientRequest & request, const AbortFlag * abort);

  private:
    struct Draw;
    struct Generation;
    class Exclusive;
    void check_prompts(const std::vector<int32_t> & tokens, const std::vector<int32_t> & lengths,
                       int64_t longest_completion) const;
    void check_packed(const PackedRequest & request) const;
    void check_lora(const Lora * lora) const;

    void generate(Generation & g, int64_t first, int64_t last);
    void forward(Generation & g, ForwardPass & pass, const std::vector<Draw> & draws, double & seconds);

    ForwardPass packed_pass(const PackedBatch & batch, const KvCache & cache, const Lora * lora);
    void add_gradient(const GradientRequest & request, const PackedBatch & batch, const Head::Sweep & sweep,
                      std::vector<int32_t> rows, std::vector<int32_t> cells, GradientResult & out);

    std::unique_ptr<Engine> engine_;
    std::unique_ptr<Gemma3> model_;
    std::unique_ptr<Tokenizer> tokenizer_;
    std::unique_ptr<Head> head_;
    std::string chat_template_;
    std::mutex mutex_;

    std::unique_ptr<Ropes> ropes_;
    KvCache cache_;              // of rollouts that are not kept, and of scoring
    Tape tape_;                  // of the last kept rollout, or of the present training pass
    KeptPass kept_;              // what is on the tape
    std::vector<float> logits_;  // of the rows being sampled; kept, as fresh memory costs page faults
};

}  // namespace vg
