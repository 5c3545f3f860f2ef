// Registration only: what is exported is in binding/, what it does is in core/. The types are in src/native/addon.ts.
#include <string>

#include <napi.h>

#include "binding/register.h"
#include "gemm.h"
#include "ggml.h"
#include "whisper.h"

namespace {

Napi::Value Version(const Napi::CallbackInfo & info) {
    Napi::Object version = Napi::Object::New(info.Env());
    version.Set("addon", VOICEGRPO_VERSION);
    version.Set("ggml", ggml_version());
    version.Set("whisper", whisper_version());
    version.Set("cpu", vg::gemm_kernel());
    return version;
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
    exports.Set("version", Napi::Function::New(env, Version, "version"));
#ifdef VOICEGRPO_HAVE_AUDIO
    vg::binding::register_audio(env, exports);
#endif
#ifdef VOICEGRPO_HAVE_WHISPER
    vg::binding::register_whisper(env, exports);
#endif
#ifdef VOICEGRPO_HAVE_POLICY
    vg::binding::register_gguf(env, exports);
    vg::binding::register_policy(env, exports);
    vg::binding::register_benchmark(env, exports);
#endif
#ifdef VOICEGRPO_CUDA
    vg::binding::register_devices(env, exports);
#endif
    return exports;
}

}  // namespace

NODE_API_MODULE(voicegrpo, Init)
