// What each file of this folder adds to the addon's exports.
#pragma once

#include <napi.h>

namespace vg::binding {

void register_audio(Napi::Env env, Napi::Object exports);
void register_whisper(Napi::Env env, Napi::Object exports);
void register_devices(Napi::Env env, Napi::Object exports);  // in the CUDA addon alone
void register_benchmark(Napi::Env env, Napi::Object exports);
void register_gguf(Napi::Env env, Napi::Object exports);
void register_policy(Napi::Env env, Napi::Object exports);

}  // namespace vg::binding
