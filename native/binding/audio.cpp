#include "audio.h"

#include <cstring>

#include "audio_resampler.h"
#include "call.h"
#include "register.h"

namespace vg::binding {
namespace {

// --- decoder
// -----------------------------------------------------------------------------------------------------------

Napi::Object level_object(Napi::Env env, const AudioLevel & level) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("frames", double(level.frames));
    object.Set("peak", level.peak);
    object.Set("squares", level.squares);
    return object;
}

Napi::Object head_object(Napi::Env env, const OpusHead & head) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("channels", head.channels);
    object.Set("gain", head.gain / 256.0);
    object.Set("streams", head.streams);
    object.Set("coupled", head.coupled);
    Napi::Array mapping = Napi::Array::New(env, head.mapping.size());
    for (size_t i = 0; i < head.mapping.size(); i++) {
        mapping.Set(uint32_t(i), int(head.mapping[i]));
    }
    object.Set("mapping", mapping);
    return object;
}

Napi::Value number_or_null(Napi::Env env, double value) {
    return value < 0 ? env.Null() : Napi::Value(Napi::Number::New(env, value));
}

class AudioHandle : public Handle<AudioHandle, AudioDecoder> {
  public:
    using Handle::Handle;
    static constexpr const char * kName = "Audio";
    static std::vector<PropertyDescriptor> methods() {
        return {InstanceMethod<&AudioHandle::Read>("read"), InstanceMethod<&AudioHandle::ReadPackets>("readPackets"),
                InstanceAccessor<&AudioHandle::Info>("info")};
    }

    Napi::Value Info(const Napi::CallbackInfo & info) {
        Napi::Env env = info.Env();
        return guard(env, [&]() -> Napi::Value {
            const AudioInfo & audio = core()->info();
            Napi::Object object = Napi::Object::New(env);
            object.Set("format", audio.format);
            object.Set("sampleRate", audio.sample_rate);
            object.Set("channels", audio.channels);
            object.Set("frames", number_or_null(env, double(audio.frames)));
            object.Set("peak", number_or_null(env, audio.peak));
            return object;
        });
    }

    Napi::Value Read(const Napi::CallbackInfo & info) {
        Napi::Env env = info.Env();
        return guard_async(env, [&]() -> Napi::Value {
            auto audio = core();
            Call call(env, lane());
            const size_t frames = size_t(Options(info[0], "read").integer("frames", 1, 1 << 24));
            call.signal(info[1]);
            struct Stretch {
                std::vector<float> samples;
                AudioLevel level;
            };
            auto stretch = std::make_shared<Stretch>();
            return call.run([=](const AbortFlag & abort) { *stretch = {audio->read(frames, abort), audio->level()}; },
                            [=](Napi::Env env) -> Napi::Value {
                                Napi::Object object = level_object(env, stretch->level);
                                object.Set("samples",
                                           give_vector<Napi::Float32Array>(env, std::move(stretch->samples)));
                                return object;
                            });
        });
    }

    Napi::Value ReadPackets(const Napi::CallbackInfo & info) {
        Napi::Env env = info.Env();
        return guard_async(env, [&]() -> Napi::Value {
            auto audio = core();
            Call call(env, lane());
            const int64_t samples = Options(info[0], "readPackets").integer("samples", 1, 1 << 24);
            call.signal(info[1]);
            auto packets = std::make_shared<OpusPackets>();
            auto head = std::make_shared<OpusHead>();
            return call.run(
                [=](const AbortFlag &) {
                    *packets = audio->read_packets(uint64_t(samples));
                    *head = audio->opus_head();
                },
                [=](Napi::Env env) -> Napi::Value {
                    Napi::Object object = Napi::Object::New(env);
                    object.Set("link", double(packets->link));
                    object.Set("head", head_object(env, *head));
                    object.Set("bytes", give_vector<Napi::Uint8Array>(env, std::move(packets->bytes)));
                    object.Set("lengths", give_vector<Napi::Uint32Array>(env, std::move(packets->lengths)));
                    object.Set("from", give_vector<Napi::Uint32Array>(env, std::move(packets->from)));
                    object.Set("to", give_vector<Napi::Uint32Array>(env, std::move(packets->to)));
                    return object;
                });
        });
    }
};

// A file descriptor, which is duplicated, or bytes, which are copied: JavaScript could change or detach them meanwhile.
std::shared_ptr<const ByteSource> source_of(const Napi::Value & value) {
    if (value.IsNumber()) {
        return std::make_shared<ByteSource>(value.As<Napi::Number>().Int32Value());
    }
    return std::make_shared<ByteSource>(copy(Options::typed_array<uint8_t>(value, "openAudio: `source`")));
}

Napi::Value OpenAudio(const Napi::CallbackInfo & info) {
    Napi::Env env = info.Env();
    return guard_async(env, [&]() -> Napi::Value {
        auto source = source_of(info[0]);
        Call call(env);
        call.signal(info[1]);
        auto audio = std::make_shared<std::shared_ptr<AudioDecoder>>();
        return call.run([=](const AbortFlag & abort) { *audio = std::make_shared<AudioDecoder>(source, abort); },
                        [=](Napi::Env env) -> Napi::Value { return AudioHandle::wrap(env, std::move(*audio)); });
    });
}

Napi::Value SniffAudio(const Napi::CallbackInfo & info) {
    Napi::Env env = info.Env();
    return guard(env, [&]() -> Napi::Value {
        ByteSource source(copy(Options::typed_array<uint8_t>(info[0], "isAudio: `beginning`")));
        return Napi::Boolean::New(env, sniff_audio(source) != AudioFormat::UNKNOWN);
    });
}

// --- resampler
// ---------------------------------------------------------------------------------------------------------

class ResamplerHandle : public Handle<ResamplerHandle, Resampler> {
  public:
    using Handle::Handle;
    static constexpr const char * kName = "Resampler";
    static std::vector<PropertyDescriptor> methods() {
        return {InstanceMethod<&ResamplerHandle::Push>("push"), InstanceMethod<&ResamplerHandle::Finish>("finish")};
    }

    Napi::Value Push(const Napi::CallbackInfo & info) {
        return guard_async(info.Env(), [&]() -> Napi::Value {
            auto resampler = core();
            Call call(info.Env(), lane());
            auto samples = shared_copy(Options::typed_array<float>(info[0], "push: `samples`"));
            return resampled(call,
                             [=](std::vector<float> & out) { resampler->push(samples->data(), samples->size(), out); });
        });
    }

    Napi::Value Finish(const Napi::CallbackInfo & info) {
        return guard_async(info.Env(), [&]() -> Napi::Value {
            Call call(info.Env(), lane());
            auto resampler = core();
            return resampled(call, [=](std::vector<float> & out) { resampler->finish(out); });
        });
    }

  private:
    static Napi::Value resampled(Call & call, std::function<void(std::vector<float> &)> work) {
        auto out = std::make_shared<std::vector<float>>();
        return call.run(
            [=](const AbortFlag &) { work(*out); },
            [=](Napi::Env env) -> Napi::Value { return give_vector<Napi::Float32Array>(env, std::move(*out)); });
    }
};

Napi::Value OpenResampler(const Napi::CallbackInfo & info) {
    Napi::Env env = info.Env();
    return guard(env, [&]() -> Napi::Value {
        const int64_t rate = Options(info[0], "openResampler").integer("rate", 1000, 192000);
        return ResamplerHandle::wrap(env, std::make_shared<Resampler>(uint32_t(rate)));
    });
}

}  // namespace

void register_audio(Napi::Env env, Napi::Object exports) {
    AudioHandle::define(env);
    ResamplerHandle::define(env);
    exports.Set("openAudio", Napi::Function::New(env, OpenAudio, "openAudio"));
    exports.Set("isAudio", Napi::Function::New(env, SniffAudio, "isAudio"));
    exports.Set("openResampler", Napi::Function::New(env, OpenResampler, "openResampler"));
}

}  // namespace vg::binding
