#include "policy.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "error.h"
#include "gemma3_backward.h"
#include "gemma3_forward.h"
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
    ropes_ = std::make_unique<Ropes>(params());
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

void check_tokens(const int32_t * tokens, int64_t n, int n_vocab, const char * what) {
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

// Prompts 0, 1, …
static std::vector<int64_t> all_prompts(const PackedInput & input) {
    std::vector<int64_t> prompts(size_t(input.n_prompts));
    std::iota(prompts.begin(), prompts.end(), 0);
    return prompts;
}

static std::vector<int32_t> first_numbers(size_t n) {
    std::vector<int32_t> numbers(n);
    std::iota(numbers.begin(), numbers.end(), 0);
    return numbers;
}

ForwardPass Policy::packed_pass(const PackedBatch & batch, const KvCache & cache, const Lora * lora) {
    ForwardPass pass;
    pass.tokens = batch.tokens;
    pass.positions = batch.positions;
    pass.cells = first_numbers(batch.tokens.size());
    pass.head_rows = batch.head_rows;
    pass.plan = batch.plan;
    pass.cache = &cache;
    pass.ropes = ropes_.get();
    pass.lora = lora;
    return pass;
}

LogProbResult Policy::log_probs(const PackedRequest & request, const AbortFlag * abort) {
    check_packed(request);
    Exclusive running(*this, abort);
    LogProbResult out;
    const auto input = input_of(request);
    out.log_probs.assign(request.tokens.size(), 0);
    out.entropies.assign(request.tokens.size(), 0);
    for (const auto & prompts : split_prompts(input, all_prompts(input), kPackedBudget)) {
        const auto batch = pack(input, prompts, params().n_head);
        if (batch.targets.empty())
            continue;
        cache_.reserve(*engine_, params(), int64_t(batch.tokens.size()));
        const auto pass = packed_pass(batch, cache_, request.lora);
        Gemma3Forward forward(*model_, *engine_, pass);
        forward.run();
        store(batch,
              head_->sweep(forward.hidden(), int64_t(batch.head_rows.size()), batch.targets, request.temperature, {}),
              out);
    }
    return out;
}

static void check_gradient(const GradientRequest & request) {
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
}

GradientResult Policy::accumulate_gradient(const GradientRequest & request, const AbortFlag * abort) {
    check_packed(request);
    check_gradient(request);
    Exclusive running(*this, abort);
    GradientResult out;
    const auto input = input_of(request);
    out.log_probs.assign(request.tokens.size(), 0);
    out.entropies.assign(request.tokens.size(), 0);

    // What the rollout left on the tape first: the other passes write over it.
    const bool same_policy =
        kept_.valid && kept_.temperature == request.temperature && kept_.adapter == request.lora->fingerprint();
    std::vector<int64_t> kept(size_t(input.n_prompts), -1), on_tape, others;
    for (int64_t b = 0; b < input.n_prompts; ++b) {
        if (same_policy)
            kept[size_t(b)] = find_kept(kept_, input, b, b > 0 ? kept[size_t(b - 1)] + 1 : 0);
        (kept[size_t(b)] >= 0 ? on_tape : others).push_back(b);
    }
    out.kept_prompts = int64_t(on_tape.size());
    for (const auto & prompts : split_prompts(input, on_tape, kPackedBudget)) {
        auto batch = pack(input, prompts, params().n_head);
        if (batch.targets.empty())
            continue;
        auto recalled = recall(kept_, input, kept, batch, params().n_embd);
        add_gradient(request, batch, recalled.sweep, std::move(recalled.rows), std::move(recalled.cells), out);
    }

    for (const auto & prompts : split_prompts(input, others, kPackedBudget)) {
        const auto batch = pack(input, prompts, params().n_head);
        if (batch.targets.empty())
            continue;
        const auto T = int64_t(batch.tokens.size());
        kept_.valid = false;
        Stopwatch watch;
        tape_.reserve(*engine_, params(), *request.lora, T, T);
        auto pass = packed_pass(batch, tape_.cache(), request.lora);
        pass.tape = &tape_;
        Gemma3Forward forward(*model_, *engine_, pass);
        forward.run();
        out.forward_seconds += watch.lap();
        Head::Wanted wanted;
        wanted.expectation = true;
        const auto sweep =
            head_->sweep(forward.hidden(), int64_t(batch.head_rows.size()), batch.targets, request.temperature, wanted);
        out.head_seconds += watch.lap();
        const auto rows = first_numbers(size_t(T));
        add_gradient(request, batch, sweep, rows, rows, out);
    }

    out.work = running.work();
    if (out.active > 0) {
        out.kl /= out.active;
        out.clip_low /= out.active;
        out.clip_high /= out.active;
        out.ratio_mean /= out.active;
    } else {
        out.ratio_mean = out.ratio_max = 1;
    }
    return out;
}

// The loss of a batch whose activations are on the tape, and its gradient.
void Policy::add_gradient(const GradientRequest & request, const PackedBatch & batch, const Head::Sweep & sweep,
                          std::vector<int32_t> rows, std::vector<int32_t> cells, GradientResult & out) {
    Stopwatch watch;
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
        out.active += 1;
        out.ratio_mean += token.ratio;
        out.kl += token.kl;
        out.clip_low += token.clip_low;
        out.clip_high += token.clip_high;
        out.ratio_max = std::max(out.ratio_max, token.ratio);
    }
    auto d_hidden = head_->backward(sweep, int64_t(batch.head_rows.size()), batch.targets, slopes, request.temperature);
    out.head_seconds += watch.lap();
    if (!any)
        return;
    BackwardPass pass;
    pass.positions = batch.positions;
    pass.rows = std::move(rows);
    pass.cells = std::move(cells);
    pass.head_rows = batch.head_rows;
    pass.plan = batch.plan;
    pass.tape = &tape_;
    pass.ropes = ropes_.get();
    pass.lora = request.lora;
    gemma3_backward(*model_, *engine_, pass, d_hidden);
    out.backward_seconds += watch.lap();
}

}  // namespace vg
