#include "whisper_engine.h"

#include "common.h"
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

Napi::Object result_object(Napi::Env env, const WhisperResult & result) {
    Napi::Array segments = Napi::Array::New(env, result.segments.size());
    for (size_t i = 0; i < result.segments.size(); i++) {
        const WhisperSegment & segment = result.segments[i];
        Napi::Object object = Napi::Object::New(env);
        object.Set("start", segment.start);
        object.Set("end", segment.end);
        object.Set("text", segment.text);
        object.Set("avgLogProb", segment.avg_log_prob);
        object.Set("noSpeechProb", segment.no_speech_prob);
        segments.Set(uint32_t(i), object);
    }
    Napi::Object object = Napi::Object::New(env);
    object.Set("text", result.text);
    object.Set("language", result.language);
    object.Set("segments", segments);
    return object;
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
            auto samples = Options::typed_array<float>(info[0], "transcribe: `samples`");
            Options options(info[1], "transcribe");
            auto language = options.string("language");
            bool translate = options.boolean("translate", false);
            int threads = int(options.integer("threads", 1, 512));
            Call call(env);  // no lane: several calls run side by side
            call.keep(info[0]);
            call.signal(info[2]);
            auto result = std::make_shared<WhisperResult>();
            return call.run(
                [=](const AbortFlag & abort) {
                    *result = engine->transcribe(samples.data, samples.size, language, translate, threads, abort);
                },
                [=](Napi::Env env) -> Napi::Value { return result_object(env, *result); });
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
