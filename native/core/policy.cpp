#include "policy.h"

#include <algorithm>
#include <cmath>

#include "error.h"
#include "gguf_reader.h"
#include "policy_internal.h"

namespace vg {

// Stream tokens of one training or scoring pass: bounds the memory for activations.
static constexpr int64_t kPackedBudget = 1024;

Policy::Exclusive::Exclusive(Policy & policy, const AbortFlag * abort)
    : lock_(policy.mutex_), engine_(*policy.engine_), before_(engine_.work_seconds()) {
    engine_.set_abort(abort);
}
Policy::Exclusive::~Exclusive() { engine_.set_abort(nullptr); }

Engine::WorkSeconds Policy::Exclusive::work() const {
    Engine::WorkSeconds work = engine_.work_seconds();
    for (size_t i = 0; i < work.size(); ++i)
        work[i] -= before_[i];
    return work;
}

Policy::Policy(const std::string & path, const std::string & type, int threads) {
    const auto file = GgufFile::open(path);
    engine_ = std::make_unique<Engine>(threads);
    model_ = std::make_unique<Gemma3>(*file, type, *engine_);
    tokenizer_ = std::make_unique<Tokenizer>(Tokenizer::from_gguf(*file));
    if (int64_t(tokenizer_->size()) > params().n_vocab) {
        throw Error("E_MODEL",
                    path + ": the tokenizer has " + std::to_string(tokenizer_->size()) +
                        " tokens, the embedding only " + std::to_string(params().n_vocab) + " rows",
                    "the file is damaged; fetch or convert it again");
    }
    head_ = std::make_unique<Head>(model_->output(), *engine_);
    chat_template_ = file->get_string("tokenizer.chat_template", "");
}

Policy::~Policy() = default;

std::string Policy::token_text(int32_t token) const { return tokenizer_->decode(&token, 1, true); }

std::unique_ptr<Lora> Policy::create_adapter(int rank, float alpha, const std::vector<std::string> & targets,
                                             uint64_t seed) {
    return std::make_unique<Lora>(params(), *engine_, rank, alpha, targets, seed);
}

// ---- checks: everything here would otherwise be an assertion inside ggml, and the end of the process ----

void Policy::check_lora(const Lora * lora) const {
    if (lora && !lora->fits(params()))
        throw Error("E_ARGUMENT", "the adapter was made for a model of another shape");
}

static void check_tokens(const int32_t * tokens, int64_t n, int n_vocab, const char * what) {
    for (int64_t i = 0; i < n; ++i) {
        if (tokens[i] < 0 || tokens[i] >= n_vocab) {
            throw Error("E_ARGUMENT", std::string(what) + " holds token " + std::to_string(tokens[i]) +
                                          ", expected 0 to " + std::to_string(n_vocab - 1));
        }
    }
}

void Policy::check_prompts(const std::vector<int32_t> & tokens, const std::vector<int32_t> & lengths,
                           int64_t longest) const {
    if (lengths.empty())
        throw Error("E_ARGUMENT", "there is no prompt");
    int64_t total = 0;
    for (const int32_t P : lengths) {
        if (P < 1)
            throw Error("E_ARGUMENT", "a prompt is empty");
        if (P + longest > params().n_ctx) {
            throw Error("E_LIMIT",
                        "a prompt of " + std::to_string(P) + " tokens and a completion of " + std::to_string(longest) +
                            " exceed the model's context of " + std::to_string(params().n_ctx),
                        "lower max_prompt_length or max_completion_length");
        }
        total += P;
    }
    if (total != int64_t(tokens.size()))
        throw Error("E_ARGUMENT", "promptTokens does not have the length that promptLengths add up to");
    check_tokens(tokens.data(), total, params().n_vocab, "promptTokens");
}

void Policy::check_packed(const PackedRequest & r) const {
    check_lora(r.lora);
    if (r.n_generations < 1 || r.max_length < 1)
        throw Error("E_ARGUMENT", "numGenerations and maxCompletionLength must be at least 1");
    if (!(r.temperature > 0))
        throw Error("E_ARGUMENT", "temperature must be above 0 where log-probabilities are computed");
    const auto N = int64_t(r.prompt_lengths.size()) * r.n_generations;
    if (int64_t(r.lengths.size()) != N || int64_t(r.tokens.size()) != N * r.max_length) {
        throw Error("E_ARGUMENT", "tokens or lengths do not have the shape [N, L] and [N]");
    }
    check_prompts(r.prompt_tokens, r.prompt_lengths, r.max_length);
    for (int64_t n = 0; n < N; ++n) {
        if (r.lengths[size_t(n)] < 0 || r.lengths[size_t(n)] > r.max_length)
            throw Error("E_ARGUMENT", "a completion's length is out of range");
        check_tokens(r.tokens.data() + n * r.max_length, r.lengths[size_t(n)], params().n_vocab, "tokens");
    }
}

static PackedInput input_of(const PackedRequest & r) {
    return {r.prompt_tokens.data(),
            r.prompt_lengths.data(),
            int64_t(r.prompt_lengths.size()),
            r.n_generations,
            r.tokens.data(),
            r.lengths.data(),
            r.max_length};
}

// ---- scoring and gradients ----

static void store(const PackedBatch & batch, const Head::Sweep & sweep, LogProbResult & out) {
    for (size_t i = 0; i < batch.targets.size(); ++i) {
        const auto & t = batch.targets[i];
        const double logp = sweep.target_logits[i] - sweep.lse[size_t(t.row)];
        if (!std::isfinite(logp)) {
            throw Error("E_NUMERIC", "a log-probability is not finite",
                        "the adapter or the model has diverged; lower learning_rate");
        }
        out.log_probs[size_t(t.slot)] = float(logp);
        out.entropies[size_t(t.slot)] = float(sweep.entropy[size_t(t.row)]);
    }
}

static ForwardPass packed_pass(const PackedBatch & batch, Lora * lora, bool keep) {
    ForwardPass pass;
    pass.tokens = batch.tokens;
    pass.positions = batch.positions;
    pass.plan = &batch.plan;
    pass.head_rows = batch.head_rows;
    pass.lora = lora;
    pass.keep = keep;
    return pass;
}

LogProbResult Policy::log_probs(const PackedRequest & request, const AbortFlag * abort) {
    check_packed(request);
    Exclusive running(*this, abort);
    LogProbResult out;
    const auto input = input_of(request);
    out.log_probs.assign(request.tokens.size(), 0);
    out.entropies.assign(request.tokens.size(), 0);
    const auto starts = split_prompts(input, kPackedBudget);
    for (size_t s = 0; s + 1 < starts.size(); ++s) {
        const auto batch = pack(input, starts[s], starts[s + 1], params().n_head);
        if (batch.targets.empty())
            continue;
        const auto pass = packed_pass(batch, request.lora, false);
        Gemma3Graph graph(*model_, *engine_, pass);
        graph.forward();
        store(batch,
              head_->sweep(graph.hidden(), int64_t(batch.head_rows.size()), batch.targets, request.temperature, false),
              out);
    }
    return out;
}

GradientResult Policy::accumulate_gradient(const GradientRequest & request, const AbortFlag * abort) {
    check_packed(request);
    const size_t N = request.lengths.size(), NL = request.tokens.size();
    if (!request.lora)
        throw Error("E_ARGUMENT", "a gradient needs an adapter");
    if (request.advantages.size() != N || request.weights.size() != N)
        throw Error("E_ARGUMENT", "advantages and weights must have the shape [N]");
    for (const auto * v : {&request.old_log_probs, &request.ref_log_probs}) {
        if (!v->empty() && v->size() != NL)
            throw Error("E_ARGUMENT", "oldLogProbs and refLogProbs must have the shape [N, L]");
    }
    if (request.loss.beta > 0 && request.ref_log_probs.empty())
        throw Error("E_ARGUMENT", "beta > 0 needs refLogProbs");
    for (size_t n = 0; n < N; ++n) {
        if (!std::isfinite(request.advantages[n]) || !std::isfinite(request.weights[n])) {
            throw Error("E_NUMERIC", "the advantage or weight of completion " + std::to_string(n) + " is not finite",
                        "check the rewards of this step");
        }
    }

    Exclusive running(*this, abort);
    GradientResult out;
    const auto input = input_of(request);
    out.log_probs.assign(NL, 0);
    out.entropies.assign(NL, 0);
    double active = 0, ratios = 0;
    const auto starts = split_prompts(input, kPackedBudget);
    for (size_t s = 0; s + 1 < starts.size(); ++s) {
        const auto batch = pack(input, starts[s], starts[s + 1], params().n_head);
        if (batch.targets.empty())
            continue;
        const auto R = int64_t(batch.head_rows.size());
        const auto pass = packed_pass(batch, request.lora, true);
        Stopwatch watch;
        Gemma3Graph graph(*model_, *engine_, pass);
        graph.forward();
        out.forward_seconds += watch.lap();

        const auto sweep = head_->sweep(graph.hidden(), R, batch.targets, request.temperature, true);
        store(batch, sweep, out);
        std::vector<double> slopes(batch.targets.size());
        bool any = false;
        for (size_t i = 0; i < batch.targets.size(); ++i) {
            const auto slot = size_t(batch.targets[i].slot), n = slot / size_t(request.max_length);
            const double weight = double(request.weights[n]);
            if (weight == 0)
                continue;
            const double logp = sweep.target_logits[i] - sweep.lse[size_t(batch.targets[i].row)];
            const auto token = grpo_token(logp, request.old_log_probs.empty() ? nullptr : &request.old_log_probs[slot],
                                          request.ref_log_probs.empty() ? nullptr : &request.ref_log_probs[slot],
                                          double(request.advantages[n]), request.loss);
            out.loss += weight * token.loss;
            slopes[i] = weight * token.slope;
            any = any || slopes[i] != 0;
            active += 1;
            ratios += token.ratio;
            out.kl += token.kl;
            out.clip_low += token.clip_low;
            out.clip_high += token.clip_high;
            out.ratio_max = std::max(out.ratio_max, token.ratio);
        }
        const auto d_hidden = head_->backward(sweep, R, batch.targets, slopes, request.temperature);
        out.head_seconds += watch.lap();
        if (any)
            graph.backward(d_hidden);
        out.backward_seconds += watch.lap();
    }
    out.work = running.work();
    if (active > 0) {
        out.kl /= active;
        out.clip_low /= active;
        out.clip_high /= active;
        out.ratio_mean = ratios / active;
    }
    return out;
}

}  // namespace vg
