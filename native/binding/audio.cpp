#include "audio.h"

#include "common.h"
#include "register.h"

namespace vg::binding {
namespace {

Napi::Value DecodeAudio(const Napi::CallbackInfo & info) {
    Napi::Env env = info.Env();
    return guard_async(env, [&]() -> Napi::Value {
        auto bytes = Options::typed_array<uint8_t>(info[0], "decodeAudio: `bytes`");
        Call call(env);
        call.keep(info[0]);
        auto audio = std::make_shared<DecodedAudio>();
        return call.run([=](const AbortFlag &) { *audio = decode_audio(bytes.data, bytes.size); },
                        [=](Napi::Env env) -> Napi::Value {
                            Napi::Object result = Napi::Object::New(env);
                            result.Set("samples", give_vector<Napi::Float32Array>(env, std::move(audio->samples)));
                            result.Set("sampleRate", audio->sample_rate);
                            result.Set("channels", audio->channels);
                            result.Set("format", audio->format);
                            return result;
                        });
    });
}

}  // namespace

void register_audio(Napi::Env env, Napi::Object exports) {
    exports.Set("decodeAudio", Napi::Function::New(env, DecodeAudio, "decodeAudio"));
}

}  // namespace vg::binding
