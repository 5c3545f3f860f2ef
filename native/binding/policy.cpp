// Policy and Adapter of src/native/addon.ts over core/policy.h.
//
// Token and reward arrays of a call are copied (a few kilobytes): JavaScript could change them after they were checked,
// and an unchecked token would end the process inside ggml. LoRA matrices and results are views over native memory.
#include "policy.h"

#include <cmath>

#include "adamw.h"
#include "binding/call.h"
#include "lora.h"

namespace vg::binding {

namespace {

// The adapter's matrices were made on the policy's engine, so the policy outlives it.
struct AdapterCore {
    std::shared_ptr<vg::Policy> policy;
    std::unique_ptr<vg::Lora> lora;
};

template <class T> std::vector<T> copied(const Options & options, const char * key, int64_t expected = -1) {
    return copy(options.array<T>(key, expected));
}

// Null and undefined give an empty vector.
std::vector<float> optional_floats(const Options & options, const char * key, int64_t expected) {
    return options.has(key) ? copied<float>(options, key, expected) : std::vector<float>();
}

// ---- Adapter ----

class AdapterHandle : public Handle<AdapterHandle, AdapterCore> {
  public:
    using Handle::Handle;
    static constexpr const char * kName = "Adapter";
    static std::vector<Property> methods() {
        return {InstanceAccessor<&AdapterHandle::Rank>("rank"),
                InstanceAccessor<&AdapterHandle::Alpha>("alpha"),
                InstanceAccessor<&AdapterHandle::Tensors>("tensors"),
                InstanceAccessor<&AdapterHandle::Updates, &AdapterHandle::SetUpdates>("updates"),
                InstanceMethod<&AdapterHandle::ZeroGradient>("zeroGradient"),
                InstanceMethod<&AdapterHandle::Step>("step")};
    }

    Napi::Value Rank(const Napi::CallbackInfo & info) {
        return guard(info.Env(), [&] { return Napi::Number::New(info.Env(), core()->lora->rank()); });
    }
    Napi::Value Alpha(const Napi::CallbackInfo & info) {
        return guard(info.Env(), [&] { return Napi::Number::New(info.Env(), double(core()->lora->alpha())); });
    }
    Napi::Value Updates(const Napi::CallbackInfo & info) {
        return guard(info.Env(), [&] { return Napi::Number::New(info.Env(), double(core()->lora->updates)); });
    }
    void SetUpdates(const Napi::CallbackInfo & info, const Napi::Value & value) {
        guard(info.Env(), [&] {
            const double updates = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
            if (!(updates >= 0 && updates == std::floor(updates) && updates < 9e15)) {
                throw_argument("Adapter: `updates` must be a whole number of at least 0");
            }
            core()->lora->updates = int64_t(updates);
        });
    }

    Napi::Value Tensors(const Napi::CallbackInfo & info) {
        Napi::Env env = info.Env();
        return guard(env, [&]() -> Napi::Value {
            const auto owner = core();
            if (!views_.IsEmpty())
                return views_.Value();
            auto & matrices = owner->lora->matrices();
            Napi::Array list = Napi::Array::New(env, matrices.size());
            for (size_t i = 0; i < matrices.size(); ++i) {
                const auto & m = matrices[i];
                const auto view = [&](ggml_tensor * t) {
                    return make_view<Napi::Float32Array>(env, owner, static_cast<float *>(t->data), size_t(m.size()));
                };
                Napi::Object tensor = Napi::Object::New(env);
                Napi::Array shape = Napi::Array::New(env, 2);
                shape.Set(0u, double(m.rows));
                shape.Set(1u, double(m.cols));
                tensor.Set("name", m.name);
                tensor.Set("shape", shape);
                tensor.Set("data", view(m.data));
                tensor.Set("gradient", view(m.gradient));
                tensor.Set("expAvg", view(m.exp_avg));
                tensor.Set("expAvgSq", view(m.exp_avg_sq));
                list.Set(uint32_t(i), tensor);
            }
            views_ = Napi::Persistent(list.As<Napi::Object>());
            return list;
        });
    }

    Napi::Value ZeroGradient(const Napi::CallbackInfo & info) {
        return guard(info.Env(), [&] {
            idle("zeroGradient");
            core()->lora->zero_gradient();
            return info.Env().Undefined();
        });
    }

    Napi::Value Step(const Napi::CallbackInfo & info) {
        return guard(info.Env(), [&]() -> Napi::Value {
            idle("step");
            const Options options(info[0], "step");
            vg::AdamWOptions o;
            o.learning_rate = options.number("learningRate", 0);
            o.beta1 = options.number("beta1", 0, 1);
            o.beta2 = options.number("beta2", 0, 1);
            o.epsilon = options.number("epsilon", 0);
            o.weight_decay = options.number("weightDecay", 0);
            o.max_grad_norm = options.number("maxGradNorm", 0);
            Napi::Object result = Napi::Object::New(info.Env());
            result.Set("gradNorm", vg::adamw_step(*core()->lora, o));
            return result;
        });
    }

  private:
    // The matrices are being read or written by a call that has not ended.
    void idle(const char * method) {
        core();
        if (lane()->busy)
            throw_argument(std::string(method) + ": the policy is still computing; await that call first");
    }

    Napi::ObjectReference views_;
};

// ---- Policy ----

std::shared_ptr<AdapterCore> adapter_of(const Options & options) {
    if (!options.has("adapter"))
        return nullptr;
    return AdapterHandle::from(options.get("adapter"), options.where() + ": `adapter`")->core();
}

void read_packed(const Options & options, vg::PackedRequest & r) {
    r.prompt_tokens = copied<int32_t>(options, "promptTokens");
    r.prompt_lengths = copied<int32_t>(options, "promptLengths");
    r.n_generations = options.integer("numGenerations", 1, 1 << 16);
    r.max_length = options.integer("maxCompletionLength", 1, 1 << 24);
    const auto n = int64_t(r.prompt_lengths.size()) * r.n_generations;
    r.tokens = copied<int32_t>(options, "tokens", n * r.max_length);
    r.lengths = copied<int32_t>(options, "lengths", n);
    r.temperature = options.number("temperature", 0);
}

void set_log_probs(Napi::Env env, Napi::Object & object, vg::LogProbResult & result) {
    object.Set("logProbs", give_vector<Napi::Float32Array>(env, std::move(result.log_probs)));
    object.Set("entropies", give_vector<Napi::Float32Array>(env, std::move(result.entropies)));
}

class PolicyHandle : public Handle<PolicyHandle, vg::Policy> {
  public:
    using Handle::Handle;
    static constexpr const char * kName = "Policy";
    static std::vector<Property> methods() {
        return {InstanceAccessor<&PolicyHandle::Info>("info"),
                InstanceMethod<&PolicyHandle::Tokenize>("tokenize"),
                InstanceMethod<&PolicyHandle::Detokenize>("detokenize"),
                InstanceMethod<&PolicyHandle::CreateAdapter>("createAdapter"),
                InstanceMethod<&PolicyHandle::Rollout>("rollout"),
                InstanceMethod<&PolicyHandle::LogProbs>("logProbs"),
                InstanceMethod<&PolicyHandle::AccumulateGradient>("accumulateGradient")};
    }

    Napi::Value Info(const Napi::CallbackInfo & info);
    Napi::Value Tokenize(const Napi::CallbackInfo & info);
    Napi::Value Detokenize(const Napi::CallbackInfo & info);
    Napi::Value CreateAdapter(const Napi::CallbackInfo & info);
    Napi::Value Rollout(const Napi::CallbackInfo & info);
    Napi::Value LogProbs(const Napi::CallbackInfo & info);
    Napi::Value AccumulateGradient(const Napi::CallbackInfo & info);
};

Napi::Value PolicyHandle::Info(const Napi::CallbackInfo & call) {
    Napi::Env env = call.Env();
    return guard(env, [&]() -> Napi::Value {
        const auto & policy = *core();
        const auto & p = policy.params();
        const auto & tokenizer = policy.tokenizer();
        const auto token = [&](int32_t id) -> Napi::Value {
            if (id < 0)
                return env.Null();
            Napi::Object object = Napi::Object::New(env);
            object.Set("id", id);
            object.Set("text", policy.token_text(id));
            return object;
        };
        Napi::Object info = Napi::Object::New(env);
        info.Set("architecture", "gemma3");
        info.Set("name", p.name);
        info.Set("layers", p.n_layer);
        info.Set("width", p.n_embd);
        info.Set("vocab", p.n_vocab);
        info.Set("contextLength", p.n_ctx);
        info.Set("slidingWindow", p.window);
        info.Set("parameters", double(policy.model().n_parameters()));
        info.Set("linearParameters", double(policy.model().n_linear_parameters()));
        info.Set("baseType", policy.model().type_name());
        info.Set("chatTemplate", policy.chat_template().empty()
                                     ? env.Null()
                                     : Napi::Value(Napi::String::New(env, policy.chat_template())));
        info.Set("bosToken", token(tokenizer.bos()));
        info.Set("eosToken", token(tokenizer.eos()));
        Napi::Array stops = Napi::Array::New(env);
        for (const int32_t id : {tokenizer.eos(), tokenizer.eot()}) {
            if (id >= 0 && !(stops.Length() > 0 && stops.Get(0u).As<Napi::Number>().Int32Value() == id))
                stops.Set(stops.Length(), id);
        }
        info.Set("stopTokens", stops);
        info.Set("addBos", tokenizer.add_bos());
        return info;
    });
}

Napi::Value PolicyHandle::Tokenize(const Napi::CallbackInfo & info) {
    return guard(info.Env(), [&]() -> Napi::Value {
        const Options options(info[1], "tokenize");
        return give_vector<Napi::Int32Array>(
            info.Env(), core()->tokenizer().encode(read_string(info[0], "tokenize: the text"),
                                                   options.boolean("addBos"), options.boolean("parseSpecial")));
    });
}

Napi::Value PolicyHandle::Detokenize(const Napi::CallbackInfo & info) {
    return guard(info.Env(), [&]() -> Napi::Value {
        const auto & policy = *core();
        const auto tokens = Options::typed_array<int32_t>(info[0], "detokenize: the tokens");
        const Options options(info[1], "detokenize");
        for (const int32_t token : tokens) {
            if (token < 0 || token >= policy.params().n_vocab) {
                throw_argument("detokenize: token " + std::to_string(token) + " is outside of the vocabulary");
            }
        }
        return Napi::String::New(info.Env(),
                                 policy.tokenizer().decode(tokens.data, tokens.size, options.boolean("special")));
    });
}

Napi::Value PolicyHandle::CreateAdapter(const Napi::CallbackInfo & info) {
    return guard(info.Env(), [&]() -> Napi::Value {
        const Options options(info[0], "createAdapter");
        auto adapter = std::make_shared<AdapterCore>();
        adapter->policy = core();
        adapter->lora = core()->create_adapter(int(options.integer("rank", 1, 1024)), float(options.number("alpha", 0)),
                                               options.strings("targetModules"),
                                               uint64_t(options.integer("seed", 0, int64_t{1} << 53)));
        return AdapterHandle::wrap(info.Env(), adapter, lane());
    });
}

static void set_work(Napi::Env env, Napi::Object & object, const vg::Engine::WorkSeconds & seconds) {
    Napi::Object work = Napi::Object::New(env);
    work.Set("linear", seconds[vg::Engine::LINEAR]);
    work.Set("lora", seconds[vg::Engine::LORA]);
    work.Set("attention", seconds[vg::Engine::ATTENTION]);
    object.Set("work", work);
}

Napi::Value PolicyHandle::Rollout(const Napi::CallbackInfo & info) {
    return guard_async(info.Env(), [&]() -> Napi::Value {
        const auto policy = core();
        const Options options(info[0], "rollout");
        const auto adapter = adapter_of(options);
        auto r = std::make_shared<vg::RolloutRequest>();
        r->lora = adapter ? adapter->lora.get() : nullptr;
        r->prompt_tokens = copied<int32_t>(options, "promptTokens");
        r->prompt_lengths = copied<int32_t>(options, "promptLengths");
        if (options.has("answers")) {
            r->answers = copied<int32_t>(options, "answers");
            r->answer_lengths = copied<int32_t>(options, "answerLengths");
        }
        r->n_generations = options.integer("numGenerations", 0, 1 << 16) + int64_t(r->answer_lengths.size());
        r->max_length = options.integer("maxCompletionLength", 1, 1 << 24);
        r->sampler.temperature = options.number("temperature", 0);
        r->sampler.top_k = int32_t(options.integer("topK", 0, 1 << 30));
        r->sampler.top_p = options.number("topP", 0, 1);
        r->stop_tokens = copied<int32_t>(options, "stopTokens");
        r->stop_strings = options.strings("stopStrings");
        r->seed = uint64_t(options.integer("seed", 0, int64_t{1} << 53));
        r->step = uint32_t(options.integer("step", 0, (int64_t{1} << 32) - 1));
        r->prompt_keys = copied<uint32_t>(options, "promptKeys", int64_t(r->prompt_lengths.size()));
        r->force_length = options.boolean("forceLength", false);
        r->keep = options.boolean("keep", false);

        Call call(info.Env(), lane());
        call.signal(info[1]);
        auto result = std::make_shared<vg::RolloutResult>();
        return call.run(
            [=](const AbortFlag & abort) {
                (void)adapter;
                *result = policy->rollout(*r, &abort);
            },
            [=](Napi::Env env) -> Napi::Value {
                Napi::Object object = Napi::Object::New(env), seconds = Napi::Object::New(env);
                Napi::Array texts = Napi::Array::New(env, result->texts.size());
                for (size_t i = 0; i < result->texts.size(); ++i)
                    texts.Set(uint32_t(i), result->texts[i]);
                object.Set("tokens", give_vector<Napi::Int32Array>(env, std::move(result->tokens)));
                object.Set("lengths", give_vector<Napi::Int32Array>(env, std::move(result->lengths)));
                object.Set("logProbs", give_vector<Napi::Float32Array>(env, std::move(result->log_probs)));
                object.Set("finish", give_vector<Napi::Uint8Array>(env, std::move(result->finish)));
                object.Set("texts", texts);
                seconds.Set("prefill", result->prefill_seconds);
                seconds.Set("decode", result->decode_seconds);
                seconds.Set("head", result->head_seconds);
                seconds.Set("sample", result->sample_seconds);
                set_work(env, object, result->work);
                object.Set("seconds", seconds);
                return object;
            });
    });
}

Napi::Value PolicyHandle::LogProbs(const Napi::CallbackInfo & info) {
    return guard_async(info.Env(), [&]() -> Napi::Value {
        const auto policy = core();
        const Options options(info[0], "logProbs");
        const auto adapter = adapter_of(options);
        auto r = std::make_shared<vg::PackedRequest>();
        r->lora = adapter ? adapter->lora.get() : nullptr;
        read_packed(options, *r);

        Call call(info.Env(), lane());
        call.signal(info[1]);
        auto result = std::make_shared<vg::LogProbResult>();
        return call.run(
            [=](const AbortFlag & abort) {
                (void)adapter;
                *result = policy->log_probs(*r, &abort);
            },
            [=](Napi::Env env) -> Napi::Value {
                Napi::Object object = Napi::Object::New(env);
                set_log_probs(env, object, *result);
                return object;
            });
    });
}

Napi::Value PolicyHandle::AccumulateGradient(const Napi::CallbackInfo & info) {
    return guard_async(info.Env(), [&]() -> Napi::Value {
        const auto policy = core();
        const Options options(info[0], "accumulateGradient");
        const auto adapter = adapter_of(options);
        auto r = std::make_shared<vg::GradientRequest>();
        r->lora = adapter ? adapter->lora.get() : nullptr;
        read_packed(options, *r);
        const auto n = int64_t(r->lengths.size());
        r->advantages = copied<float>(options, "advantages", n);
        r->weights = copied<float>(options, "weights", n);
        r->old_log_probs = optional_floats(options, "oldLogProbs", n * r->max_length);
        r->ref_log_probs = optional_floats(options, "refLogProbs", n * r->max_length);
        r->loss.epsilon = float(options.number("epsilon", 0));
        r->loss.epsilon_high = float(options.number("epsilonHigh", 0));
        r->loss.beta = float(options.number("beta", 0));

        Call call(info.Env(), lane());
        call.signal(info[1]);
        auto result = std::make_shared<vg::GradientResult>();
        return call.run(
            [=](const AbortFlag & abort) {
                (void)adapter;
                *result = policy->accumulate_gradient(*r, &abort);
            },
            [=](Napi::Env env) -> Napi::Value {
                Napi::Object object = Napi::Object::New(env), seconds = Napi::Object::New(env);
                set_log_probs(env, object, *result);
                object.Set("loss", result->loss);
                object.Set("keptPrompts", double(result->kept_prompts));
                object.Set("kl", result->kl);
                object.Set("clipLow", result->clip_low);
                object.Set("clipHigh", result->clip_high);
                object.Set("ratioMean", result->ratio_mean);
                object.Set("ratioMax", result->ratio_max);
                seconds.Set("forward", result->forward_seconds);
                seconds.Set("head", result->head_seconds);
                seconds.Set("backward", result->backward_seconds);
                set_work(env, object, result->work);
                object.Set("seconds", seconds);
                return object;
            });
    });
}

Napi::Value open_policy(const Napi::CallbackInfo & info) {
    return guard_async(info.Env(), [&]() -> Napi::Value {
        const std::string path = read_string(info[0], "openPolicy: the path");
        const Options options(info[1], "openPolicy");
        const std::string type = options.string("type", "auto");
        const int threads = int(options.integer("threads", 1, 512));
        auto policy = std::make_shared<std::shared_ptr<vg::Policy>>();
        Call call(info.Env());
        return call.run([=](const AbortFlag &) { *policy = std::make_shared<vg::Policy>(path, type, threads); },
                        [=](Napi::Env env) -> Napi::Value { return PolicyHandle::wrap(env, *policy); });
    });
}

}  // namespace

void register_policy(Napi::Env env, Napi::Object exports) {
    PolicyHandle::define(env);
    AdapterHandle::define(env);
    exports.Set("openPolicy", Napi::Function::New(env, open_policy, "openPolicy"));
}

}  // namespace vg::binding
