// Sampling G completions of each prompt. A prompt is computed once; its keys and values serve all of its completions.
#include <algorithm>
#include <atomic>
#include <cmath>

#include "error.h"
#include "philox.h"
#include "policy_internal.h"

namespace vg {

static constexpr int64_t kPrefillBudget = 1024;  // prompt tokens of one pass
static constexpr int64_t kCellBudget = 8192;     // key/value cells of prompts that are decoded together
static constexpr int64_t kLogitRows = 64;        // rows of V floats that exist at a time

static constexpr double kSampleFlops = 30;  // of one logit: mostly an exponential

// The state of one request. Completion n of prompt b has its cells behind the prompt's own.
struct Policy::Generation {
    const RolloutRequest & request;
    RolloutResult out;
    size_t longest_stop = 0;
    std::vector<float> logits;

    explicit Generation(const RolloutRequest & r) : request(r) {
        const size_t N = r.prompt_lengths.size() * size_t(r.n_generations);
        out.tokens.assign(N * size_t(r.max_length), 0);
        out.log_probs.assign(N * size_t(r.max_length), 0);
        out.lengths.assign(N, 0);
        out.finish.assign(N, FINISH_LENGTH);
        out.texts.resize(N);
        for (const auto & s : r.stop_strings)
            longest_stop = std::max(longest_stop, s.size());
    }

    // Takes a sampled token; false when the completion has ended.
    bool accept(int64_t n, const Sampled & s, const Tokenizer & tokenizer) {
        const auto & r = request;
        const auto t = out.lengths[size_t(n)]++;
        out.tokens[size_t(n * r.max_length + t)] = s.token;
        out.log_probs[size_t(n * r.max_length + t)] = float(s.log_prob);
        std::string & text = out.texts[size_t(n)];
        const bool stop = std::find(r.stop_tokens.begin(), r.stop_tokens.end(), s.token) != r.stop_tokens.end();
        if (stop && !r.force_length) {
            out.finish[size_t(n)] = FINISH_STOP_TOKEN;
            return false;
        }
        // A stop string may begin in earlier tokens.
        const size_t from = text.size() < longest_stop ? 0 : text.size() - longest_stop;
        text += tokenizer.piece(s.token);
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

const std::vector<KvLayer> & Policy::kv_cache(int64_t cells) {
    if (cells > cache_cells_) {
        cache_buffer_.reset();
        cache_.clear();
        cache_cells_ = 0;
        const auto & p = params();
        cache_ctx_ = make_context(size_t(p.n_layer) * 2);
        for (int i = 0; i < p.n_layer; ++i) {
            const int64_t width = int64_t{p.head_dim} * p.n_head_kv;
            cache_.push_back({ggml_new_tensor_2d(cache_ctx_.get(), GGML_TYPE_F32, width, cells),
                              ggml_new_tensor_2d(cache_ctx_.get(), GGML_TYPE_F32, width, cells)});
        }
        cache_buffer_ = engine_->allocate(cache_ctx_.get(), "the key/value cache");
        cache_cells_ = cells;
    }
    return cache_;
}

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

    Exclusive running(*this, abort);
    Generation g(r);
    const auto B = int64_t(r.prompt_lengths.size());
    int64_t first = 0, cells = 0;
    for (int64_t b = 0; b < B; ++b) {
        const int64_t need = r.prompt_lengths[size_t(b)] + r.n_generations * r.max_length;
        if (b > first && cells + need > kCellBudget) {
            generate(g, first, b);
            first = b, cells = 0;
        }
        cells += need;
    }
    if (first < B)
        generate(g, first, B);
    g.out.work = running.work();
    return std::move(g.out);
}

namespace {

// Head row `row` is sampled for completions [n, n + count).
struct Draw {
    int64_t row;
    int64_t n;
    int64_t count;
};

}  // namespace

void Policy::generate(Generation & g, int64_t first, int64_t last) {
    const auto & r = g.request;
    const auto & p = params();
    const auto G = r.n_generations, L = r.max_length, V = int64_t{p.n_vocab}, D = int64_t{p.n_embd};

    std::vector<int64_t> prompt_cell;  // first cell of each prompt of this run
    int64_t cells = 0;
    for (int64_t b = first; b < last; ++b) {
        prompt_cell.push_back(cells);
        cells += r.prompt_lengths[size_t(b)] + G * (L - 1);
    }
    const auto & cache = kv_cache(cells);
    const auto own_cell = [&](int64_t n) {
        const int64_t b = n / G;
        return prompt_cell[size_t(b - first)] + r.prompt_lengths[size_t(b)] + n % G * (L - 1);
    };

    Stopwatch watch;
    // Samples from the hidden rows; completions that go on are appended to `active`.
    std::vector<int64_t> active;
    const auto choose = [&](const float * hidden, const std::vector<Draw> & draws) {
        for (size_t from = 0; from < draws.size(); from += size_t(kLogitRows)) {
            const auto rows = std::min(size_t(kLogitRows), draws.size() - from);
            g.logits.resize(std::max(g.logits.size(), rows * size_t(V)));
            watch.lap();
            head_->logits(hidden + draws[from].row * D, int64_t(rows), g.logits.data());
            g.out.head_seconds += watch.lap();
            std::vector<std::vector<Sampled>> sampled(rows);
            std::atomic<bool> finite{true};
            engine_->parallel(kSampleFlops * double(rows) * double(V), [&](int ith, int nth) {
                for (size_t i = size_t(ith); i < rows; i += size_t(nth)) {
                    const auto & d = draws[from + i];
                    const float * logits = g.logits.data() + i * size_t(V);
                    const auto stats = row_stats(logits, V, r.sampler.temperature);
                    if (!std::isfinite(stats.sum) || !std::isfinite(stats.max)) {
                        finite = false;
                        continue;
                    }
                    for (int64_t n = d.n; n < d.n + d.count; ++n) {
                        const auto b = size_t(n / G), t = size_t(g.out.lengths[size_t(n)]);
                        const double u = philox_uniform(r.seed, r.step, r.prompt_keys[b], uint32_t(n % G), uint32_t(t));
                        sampled[i].push_back(sample(logits, V, stats, r.sampler, u));
                    }
                }
            });
            if (!finite) {
                throw Error("E_NUMERIC", "the policy's logits are not finite",
                            "the adapter has diverged; lower learning_rate");
            }
            g.out.sample_seconds += watch.lap();
            for (size_t i = 0; i < rows; ++i) {
                for (size_t k = 0; k < sampled[i].size(); ++k) {
                    const int64_t n = draws[from + i].n + int64_t(k);
                    if (g.accept(n, sampled[i][k], *tokenizer_))
                        active.push_back(n);
                }
            }
        }
    };

    int64_t token = 0;
    for (int64_t b = 0; b < first; ++b)
        token += r.prompt_lengths[size_t(b)];
    for (int64_t b = first; b < last;) {
        AttentionPlan plan;
        ForwardPass pass;
        std::vector<Draw> draws;
        plan.n_head = p.n_head;
        plan.n_keys = cells;
        for (; b < last; ++b) {
            const int32_t P = r.prompt_lengths[size_t(b)];
            if (!pass.tokens.empty() && int64_t(pass.tokens.size()) + P > kPrefillBudget)
                break;
            const int64_t cell = prompt_cell[size_t(b - first)];
            plan.blocks.push_back({int64_t(pass.tokens.size()), P, cell, P, 0});
            for (int32_t i = 0; i < P; ++i) {
                pass.tokens.push_back(r.prompt_tokens[size_t(token++)]);
                pass.positions.push_back(i);
                pass.cells.push_back(cell + i);
                plan.add_row(i, P);
            }
            draws.push_back({int64_t(draws.size()), b * G, G});
            pass.head_rows.push_back(int32_t(pass.tokens.size()) - 1);
        }
        pass.plan = &plan;
        pass.cache = &cache;
        pass.lora = r.lora;
        Gemma3Graph graph(*model_, *engine_, pass);
        watch.lap();
        graph.forward();
        g.out.prefill_seconds += watch.lap();
        choose(graph.hidden(), draws);
    }

    while (!active.empty()) {
        AttentionPlan plan;
        ForwardPass pass;
        std::vector<Draw> draws;
        plan.n_head = p.n_head;
        plan.n_keys = cells;
        std::vector<AttentionBlock> own;
        for (size_t i = 0; i < active.size(); ++i) {
            const int64_t n = active[i], b = n / G, cell = own_cell(n);
            const int32_t P = r.prompt_lengths[size_t(b)],
                          t = g.out.lengths[size_t(n)] - 1;  // t: index of the token to feed
            if (i == 0 || active[i - 1] / G != b)
                plan.blocks.push_back({int64_t(i), 0, prompt_cell[size_t(b - first)], P, 0});
            plan.blocks.back().n_q += 1;
            own.push_back({int64_t(i), 1, cell, t + 1, P});
            pass.tokens.push_back(g.out.tokens[size_t(n * L + t)]);
            pass.positions.push_back(P + t);
            pass.cells.push_back(cell + t);
            pass.head_rows.push_back(int32_t(i));
            draws.push_back({int64_t(i), n, 1});
            plan.add_row(P + t, P + t + 1);
        }
        plan.blocks.insert(plan.blocks.end(), own.begin(), own.end());
        pass.plan = &plan;
        pass.cache = &cache;
        pass.lora = r.lora;
        Gemma3Graph graph(*model_, *engine_, pass);
        watch.lap();
        graph.forward();
        g.out.decode_seconds += watch.lap();
        active.clear();
        choose(graph.hidden(), draws);
    }
}

}  // namespace vg
