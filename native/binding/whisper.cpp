#include "whisper_engine.h"

#include "call.h"
#include "register.h"

namespace vg::binding {
namespace {

Napi::Object info_object(Napi::Env env, const WhisperInfo & info) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("multilingual", info.multilingual);
    object.Set("vocab", info.vocab);
    object.Set("audioContext", info.audio_context);
    object.Set("textContext", info.text_context);
    object.Set("mels", info.mels);
    object.Set("type", info.type);
    Napi::Array languages = Napi::Array::New(env, info.languages.size());
    for (size_t i = 0; i < info.languages.size(); i++) {
        languages.Set(uint32_t(i), info.languages[i]);
    }
    object.Set("languages", languages);
    return object;
}

template <class T, class F> Napi::Array array_of(Napi::Env env, const std::vector<T> & values, F && make) {
    Napi::Array array = Napi::Array::New(env, values.size());
    for (size_t i = 0; i < values.size(); i++) {
        Napi::HandleScope scope(env);
        array.Set(uint32_t(i), make(env, values[i]));
    }
    return array;
}

Napi::Object token_object(Napi::Env env, const WhisperToken & token) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("id", token.id);
    object.Set("text", token.text);
    object.Set("probability", token.probability);
    object.Set("logProb", token.log_prob);
    return object;
}

Napi::Object word_object(Napi::Env env, const WhisperWord & word) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("text", word.text);
    object.Set("start", word.start);
    object.Set("end", word.end);
    object.Set("probability", word.probability);
    return object;
}

Napi::Object segment_object(Napi::Env env, const WhisperSegment & segment, bool words) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("start", segment.start);
    object.Set("end", segment.end);
    object.Set("text", segment.text);
    object.Set("avgLogProb", segment.avg_log_prob);
    object.Set("noSpeechProb", segment.no_speech_prob);
    object.Set("temperature", segment.temperature);
    object.Set("tokens", array_of(env, segment.tokens, token_object));
    object.Set("words", words ? Napi::Value(array_of(env, segment.words, word_object)) : env.Null());
    return object;
}

Napi::Object fallback_object(Napi::Env env, const WhisperFallback & fallback) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("start", fallback.start);
    object.Set("temperature", fallback.temperature);
    object.Set("reason", fallback.reason);
    return object;
}

Napi::Object result_object(Napi::Env env, const WhisperResult & result, bool words) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("text", result.text);
    object.Set("language", result.language);
    object.Set("languageProbability", result.language_probability);
    object.Set("segments", array_of(env, result.segments, [words](Napi::Env env, const WhisperSegment & segment) {
                   return segment_object(env, segment, words);
               }));
    object.Set("fallbacks", array_of(env, result.fallbacks, fallback_object));
    object.Set("audioContext", result.audio_context);
    return object;
}

bool read_window(const Options & options) {
    const std::string window = options.string("window", "full");
    if (window != "full" && window != "fitted") {
        throw_argument("transcribe: `window` must be 'full' or 'fitted', got \"" + window + "\"");
    }
    return window == "fitted";
}

WhisperOptions read_options(const Options & options) {
    constexpr size_t LONGEST_PROMPT = 1 << 20;
    WhisperOptions read;
    read.language = options.string("language");
    read.threads = int(options.integer("threads", 1, 512));
    read.translate = options.boolean("translate", false);
    read.initial_prompt = options.string("initialPrompt", "");
    if (read.initial_prompt.size() > LONGEST_PROMPT) {
        throw_argument("transcribe: `initialPrompt` must be at most 1 MiB of text, got " +
                       std::to_string(read.initial_prompt.size()) + " bytes");
    }
    read.beam_size = int(options.integer("beamSize", 1, WhisperOptions::MAX_DECODERS, read.beam_size));
    read.best_of = int(options.integer("bestOf", 1, WhisperOptions::MAX_DECODERS, read.best_of));
    const auto number = [&](const char * key, double low, double high, double fallback) {
        return options.has(key) ? options.number(key, low, high) : fallback;
    };
    read.temperature = number("temperature", 0, 1, read.temperature);
    read.temperature_increment = number("temperatureIncrement", 0, 1, read.temperature_increment);
    if (read.temperature_increment > 0 && read.temperature_increment < 0.01) {
        throw_argument("transcribe: `temperatureIncrement` must be 0 or a number from 0.01 to 1, got " +
                       std::to_string(read.temperature_increment));
    }
    read.entropy_threshold = number("entropyThreshold", -100, 100, read.entropy_threshold);
    read.log_prob_threshold = number("logProbThreshold", -100, 100, read.log_prob_threshold);
    read.no_speech_threshold = number("noSpeechThreshold", 0, 1, read.no_speech_threshold);
    read.fitted_window = read_window(options);
    read.word_timestamps = options.boolean("wordTimestamps", false);
    if (options.has("vadModel")) {
        read.vad_model = options.string("vadModel");
        if (read.vad_model.empty()) {
            throw_argument("transcribe: `vadModel` must be the path of a Silero model, got \"\"");
        }
    }
    return read;
}

class WhisperHandle : public Handle<WhisperHandle, WhisperEngine> {
  public:
    using Handle::Handle;
    static constexpr const char * kName = "Whisper";
    static std::vector<PropertyDescriptor> methods() {
        return {InstanceMethod<&WhisperHandle::Transcribe>("transcribe"),
                InstanceAccessor<&WhisperHandle::Info>("info")};
    }

    Napi::Value Info(const Napi::CallbackInfo & info) {
        return guard(info.Env(), [&]() -> Napi::Value { return info_object(info.Env(), core()->info()); });
    }

    Napi::Value Transcribe(const Napi::CallbackInfo & info) {
        Napi::Env env = info.Env();
        return guard_async(env, [&]() -> Napi::Value {
            auto engine = core();
            auto samples = shared_copy(Options::typed_array<float>(info[0], "transcribe: `samples`"));
            Options object(info[1], "transcribe");
            const WhisperOptions options = read_options(object);
            Call call(env);  // no lane: several calls run side by side
            call.signal(info[2]);
            const bool words = options.word_timestamps;
            SegmentCallback on_segment = [](const WhisperSegment &) {};
            if (object.has("onSegment")) {
                auto listener = call.listener(object.get("onSegment"), "transcribe: `onSegment`");
                on_segment = [=](const WhisperSegment & segment) {
                    listener->tell([=](Napi::Env env) -> Napi::Value { return segment_object(env, segment, words); });
                };
            }
            auto result = std::make_shared<WhisperResult>();
            return call.run(
                [=](const AbortFlag & abort) {
                    *result = engine->transcribe(samples->data(), samples->size(), options, on_segment, abort);
                },
                [=](Napi::Env env) -> Napi::Value { return result_object(env, *result, words); });
        });
    }
};

Napi::Value OpenWhisper(const Napi::CallbackInfo & info) {
    Napi::Env env = info.Env();
    return guard_async(env, [&]() -> Napi::Value {
        auto path = read_string(info[0], "openWhisper: `path`");
        auto engine = std::make_shared<std::shared_ptr<WhisperEngine>>();
        return Call(env).run([=](const AbortFlag &) { *engine = std::make_shared<WhisperEngine>(path); },
                             [=](Napi::Env env) -> Napi::Value { return WhisperHandle::wrap(env, *engine); });
    });
}

}  // namespace

void register_whisper(Napi::Env env, Napi::Object exports) {
    WhisperHandle::define(env);
    exports.Set("openWhisper", Napi::Function::New(env, OpenWhisper, "openWhisper"));
}

}  // namespace vg::binding
