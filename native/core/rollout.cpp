// Sampling G completions of each prompt. A prompt is computed once; its keys and values serve all of its completions.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "error.h"
#include "philox.h"
#include "policy_internal.h"

namespace vg {

static constexpr int64_t kPrefillBudget = 1024;  // prompt tokens of one pass
static constexpr int64_t kCellBudget = 8192;     // key/value cells of prompts that are decoded together
static constexpr int64_t kLogitRows = 64;        // rows of V floats that exist at a time

static constexpr double kSampleFlops = 30;             // of one logit: mostly an exponential
static constexpr size_t kTapeBytes = size_t(2) << 30;  // a rollout that needs more is not kept

// Head row `row` gives the next token of completions [n, n + count).
struct Policy::Draw {
    int64_t row;
    int64_t n;
    int64_t count;
};

// The state of one request. Completion n of prompt b has its cells behind the prompt's own.
struct Policy::Generation {
    const RolloutRequest & request;
    RolloutResult out;
    size_t longest_stop = 0;
    std::vector<size_t> answer_starts;
    std::vector<int64_t> active;  // completions that go on
    KeptPass * kept = nullptr;    // null: nothing is kept

    explicit Generation(const RolloutRequest & r) : request(r) {
        const size_t N = r.prompt_lengths.size() * size_t(r.n_generations);
        out.tokens.assign(N * size_t(r.max_length), 0);
        out.log_probs.assign(N * size_t(r.max_length), 0);
        out.lengths.assign(N, 0);
        out.finish.assign(N, FINISH_LENGTH);
        out.texts.resize(N);
        for (const auto & s : r.stop_strings)
            longest_stop = std::max(longest_stop, s.size());
        size_t start = 0;
        for (const int32_t length : r.answer_lengths) {
            answer_starts.push_back(start);
            start += size_t(length);
        }
    }

    // Which given answer completion n is; negative where it is sampled.
    int64_t answer(int64_t n) const { return n % request.n_generations - request.n_sampled(); }
    int32_t given(int64_t answer, int64_t t) const {
        return request.answers[answer_starts[size_t(answer)] + size_t(t)];
    }

    // Takes the next token of a given answer; false when that was its last.
    bool follow(int64_t n, double log_prob) {
        const int64_t i = answer(n), t = out.lengths[size_t(n)]++;
        out.tokens[size_t(n * request.max_length + t)] = given(i, t);
        out.log_probs[size_t(n * request.max_length + t)] = float(log_prob);
        return t + 1 < request.answer_lengths[size_t(i)];
    }

    // Takes a sampled token; false when the completion has ended.
    bool accept(int64_t n, int32_t token, double log_prob, const Tokenizer & tokenizer) {
        const auto & r = request;
        const auto t = out.lengths[size_t(n)]++;
        out.tokens[size_t(n * r.max_length + t)] = token;
        out.log_probs[size_t(n * r.max_length + t)] = float(log_prob);
        std::string & text = out.texts[size_t(n)];
        const bool stop = std::find(r.stop_tokens.begin(), r.stop_tokens.end(), token) != r.stop_tokens.end();
        if (stop && !r.force_length) {
            out.finish[size_t(n)] = FINISH_STOP_TOKEN;
            return false;
        }
        // A stop string may begin in earlier tokens.
        const size_t from = text.size() < longest_stop ? 0 : text.size() - longest_stop;
        text += tokenizer.piece(token);
        if (!r.force_length) {
            size_t cut = std::string::npos;
            for (const auto & needle : r.stop_strings)
                cut = std::min(cut, text.find(needle, from));
            if (cut != std::string::npos) {
                text.resize(cut);
                out.finish[size_t(n)] = FINISH_STOP_STRING;
                return false;
            }
        }
        return t + 1 < r.max_length;
    }
};

RolloutResult Policy::rollout(const RolloutRequest & r, const AbortFlag * abort) {
    check_lora(r.lora);
    if (r.n_generations < 1 || r.max_length < 1)
        throw Error("E_ARGUMENT", "numGenerations and maxCompletionLength must be at least 1");
    if (!(r.sampler.temperature >= 0) || !(r.sampler.top_p > 0 && r.sampler.top_p <= 1) || r.sampler.top_k < 0) {
        throw Error("E_ARGUMENT", "temperature must be at least 0, topP in (0, 1], topK at least 0");
    }
    if (r.prompt_keys.size() != r.prompt_lengths.size())
        throw Error("E_ARGUMENT", "promptKeys must have the shape [B]");
    for (const auto & s : r.stop_strings) {
        if (s.empty())
            throw Error("E_ARGUMENT", "a stop string is empty");
    }
    check_prompts(r.prompt_tokens, r.prompt_lengths, r.max_length);

    const auto answer_tokens = std::accumulate(r.answer_lengths.begin(), r.answer_lengths.end(), int64_t{0});
    for (const int32_t length : r.answer_lengths) {
        if (length < 1 || length > r.max_length)
            throw Error("E_ARGUMENT", "a given answer must have 1 to maxCompletionLength tokens");
    }
    if (answer_tokens != int64_t(r.answers.size()) || r.n_sampled() < 0)
        throw Error("E_ARGUMENT", "answers does not have the length that answerLengths add up to");
    check_tokens(r.answers.data(), answer_tokens, params().n_vocab, "answers");
    if (r.keep && (!r.lora || !(r.sampler.temperature > 0)))
        throw Error("E_ARGUMENT", "a rollout that is kept needs an adapter and a temperature above 0");

    Exclusive running(*this, abort);
    Generation g(r);
    const auto B = int64_t(r.prompt_lengths.size()), N = B * r.n_generations;
    // Of each prompt; sampled completions at their longest.
    std::vector<int64_t> cells;
    for (const int32_t P : r.prompt_lengths)
        cells.push_back(P + r.n_generations * (r.max_length - 1));
    const auto all = std::accumulate(cells.begin(), cells.end(), int64_t{0});
    if (r.keep && size_t(all) * Tape::bytes_per_row(params(), *r.lora) <= kTapeBytes) {
        kept_ = {};
        kept_.prompt_tokens = r.prompt_tokens;
        kept_.prompt_lengths = r.prompt_lengths;
        kept_.n_generations = r.n_generations;
        kept_.max_length = r.max_length;
        kept_.temperature = r.sampler.temperature;
        kept_.adapter = r.lora->fingerprint();
        kept_.rows.assign(size_t(N * r.max_length), -1);
        kept_.target_logits.assign(size_t(N * r.max_length), 0);
        kept_.completion_cells.resize(size_t(N));
        tape_.reserve(*engine_, params(), *r.lora, all, all);
        g.kept = &kept_;
        generate(g, 0, B);
        kept_.tokens = g.out.tokens;
        kept_.lengths = g.out.lengths;
        kept_.valid = true;
    } else {
        int64_t first = 0, used = 0;
        for (int64_t b = 0; b < B; ++b) {
            if (b > first && used + cells[size_t(b)] > kCellBudget) {
                generate(g, first, b);
                first = b, used = 0;
            }
            used += cells[size_t(b)];
        }
        generate(g, first, B);
    }
    g.out.work = running.work();
    return std::move(g.out);
}

// Runs a pass and takes the next token of each completion that it leads to. Those that go on are added to g.active.
void Policy::forward(Generation & g, ForwardPass & pass, const std::vector<Draw> & draws, double & seconds) {
    const auto & r = g.request;
    const auto V = int64_t{params().n_vocab}, D = int64_t{params().n_embd};
    // Greedy choice counts as temperature 1.
    const double temperature = r.sampler.temperature > 0 ? r.sampler.temperature : 1;
    Stopwatch watch;
    pass.lora = r.lora;
    pass.ropes = ropes_.get();
    if (g.kept) {
        pass.tape = &tape_;
        pass.tape_row = g.kept->n_rows;
        g.kept->n_rows += int64_t(pass.tokens.size());
        g.kept->columns.resize(size_t(g.kept->n_rows), -1);
    }
    Gemma3Forward graph(*model_, *engine_, pass);
    graph.run();
    seconds += watch.lap();

    for (size_t from = 0; from < draws.size(); from += size_t(kLogitRows)) {
        const auto rows = std::min(size_t(kLogitRows), draws.size() - from);
        logits_.resize(std::max(logits_.size(), rows * size_t(V)));
        const Head::Wanted wanted = {g.kept != nullptr, logits_.data()};
        const auto sweep = head_->sweep(graph.hidden() + draws[from].row * D, int64_t(rows), {}, temperature, wanted);
        if (g.kept) {
            for (size_t i = 0; i < rows; ++i) {
                const auto row = pass.tape_row + pass.head_rows[size_t(draws[from + i].row)];
                g.kept->columns[size_t(row)] = int32_t(g.kept->lse.size() + i);
            }
            g.kept->lse.insert(g.kept->lse.end(), sweep.lse.begin(), sweep.lse.end());
            g.kept->entropy.insert(g.kept->entropy.end(), sweep.entropy.begin(), sweep.entropy.end());
            g.kept->expectation.insert(g.kept->expectation.end(), sweep.expectation.begin(), sweep.expectation.end());
        }
        g.out.head_seconds += watch.lap();

        for (const double lse : sweep.lse) {
            if (!std::isfinite(lse)) {
                throw Error("E_NUMERIC", "the policy's logits are not finite",
                            "the adapter has diverged; lower learning_rate");
            }
        }
        std::vector<std::vector<int32_t>> chosen(rows);
        engine_->parallel(kSampleFlops * double(rows) * double(head_->segment_rows()), [&](int ith, int nth) {
            for (size_t i = size_t(ith); i < rows; i += size_t(nth)) {
                const auto & d = draws[from + i];
                const SampledRow row = {logits_.data() + i * size_t(V), V, sweep.segments.data() + i * Head::kSegments,
                                        Head::kSegments, head_->segment_rows()};
                for (int64_t n = d.n; n < d.n + d.count; ++n) {
                    const auto t = g.out.lengths[size_t(n)];
                    if (g.answer(n) >= 0) {
                        chosen[i].push_back(g.given(g.answer(n), t));
                        continue;
                    }
                    const auto b = size_t(n / r.n_generations);
                    const double u =
                        philox_uniform(r.seed, r.step, r.prompt_keys[b], uint32_t(n % r.n_generations), uint32_t(t));
                    chosen[i].push_back(sample(row, r.sampler, u));
                }
            }
        });
        for (size_t i = 0; i < rows; ++i) {
            for (size_t k = 0; k < chosen[i].size(); ++k) {
                const int64_t n = draws[from + i].n + int64_t(k);
                const int32_t token = chosen[i][k];
                const double logit = double(logits_[i * size_t(V) + size_t(token)]) * double(float(1 / temperature));
                if (g.kept)
                    g.kept->target_logits[size_t(n * r.max_length + g.out.lengths[size_t(n)])] = logit;
                const double log_prob = logit - sweep.lse[i];
                if (g.answer(n) >= 0 ? g.follow(n, log_prob) : g.accept(n, token, log_prob, *tokenizer_))
                    g.active.push_back(n);
            }
        }
        g.out.sample_seconds += watch.lap();
    }
}

// Prompts [first, last) with all of their completions.
void Policy::generate(Generation & g, int64_t first, int64_t last) {
    const auto & r = g.request;
    const auto & p = params();
    const auto G = r.n_generations, L = r.max_length;

    std::vector<int32_t> prompt_cells;  // of each prompt's first token
    int64_t cells = 0;
    for (int64_t b = first; b < last; ++b) {
        prompt_cells.push_back(int32_t(cells));
        cells += r.prompt_lengths[size_t(b)] + G * (L - 1);
    }
    const auto own_cell = [&](int64_t n) {
        const int64_t b = n / G;
        return prompt_cells[size_t(b - first)] + r.prompt_lengths[size_t(b)] + n % G * (L - 1);
    };
    if (g.kept) {
        g.kept->prompt_cells = prompt_cells;
        g.kept->n_cells = cells;
        for (int64_t n = 0; n < last * G; ++n)
            g.kept->completion_cells[size_t(n)] = int32_t(own_cell(n));
    } else {
        cache_.reserve(*engine_, p, cells);
    }
    const auto empty_pass = [&] {
        ForwardPass pass;
        pass.plan.n_head = p.n_head;
        pass.plan.n_keys = cells;
        pass.cache = g.kept ? &tape_.cache() : &cache_;
        return pass;
    };

    g.active.clear();
    auto token = std::accumulate(r.prompt_lengths.begin(), r.prompt_lengths.begin() + first, int64_t{0});
    for (int64_t b = first; b < last;) {
        ForwardPass pass = empty_pass();
        std::vector<Draw> draws;
        for (; b < last; ++b) {
            const int32_t P = r.prompt_lengths[size_t(b)];
            if (!pass.tokens.empty() && int64_t(pass.tokens.size()) + P > kPrefillBudget)
                break;
            const int32_t cell = prompt_cells[size_t(b - first)];
            if (g.kept)
                g.kept->prompt_rows.push_back(int32_t(g.kept->n_rows + int64_t(pass.tokens.size())));
            pass.plan.add_prompt(int64_t(pass.tokens.size()), cell, P);
            for (int32_t i = 0; i < P; ++i) {
                pass.tokens.push_back(r.prompt_tokens[size_t(token++)]);
                pass.positions.push_back(i);
                pass.cells.push_back(cell + i);
                pass.plan.add_row(i, P);
            }
            draws.push_back({int64_t(draws.size()), b * G, G});
            pass.head_rows.push_back(int32_t(pass.tokens.size()) - 1);
        }
        forward(g, pass, draws, g.out.prefill_seconds);
    }

    while (!g.active.empty()) {
        const std::vector<int64_t> active = std::exchange(g.active, {});
        ForwardPass pass = empty_pass();
        std::vector<Draw> draws;
        std::vector<AttentionBlock> own;
        for (size_t i = 0; i < active.size(); ++i) {
            const int64_t n = active[i], b = n / G, cell = own_cell(n);
            const int32_t P = r.prompt_lengths[size_t(b)],
                          t = g.out.lengths[size_t(n)] - 1;  // t: index of the token to feed
            if (i == 0 || active[i - 1] / G != b)
                pass.plan.blocks.push_back({int64_t(i), 0, prompt_cells[size_t(b - first)], P, 0, P});
            pass.plan.blocks.back().n_q += 1;
            own.push_back({int64_t(i), 1, cell, t + 1, P, P});
            if (g.kept)
                g.kept->rows[size_t(n * L + t)] = int32_t(g.kept->n_rows + int64_t(i));
            pass.tokens.push_back(g.out.tokens[size_t(n * L + t)]);
            pass.positions.push_back(P + t);
            pass.cells.push_back(int32_t(cell + t));
            pass.head_rows.push_back(int32_t(i));
            draws.push_back({int64_t(i), n, 1});
            pass.plan.add_row(P + t, P + t + 1);
        }
        pass.plan.blocks.insert(pass.plan.blocks.end(), own.begin(), own.end());
        forward(g, pass, draws, g.out.decode_seconds);
    }
}

}  // namespace vg
