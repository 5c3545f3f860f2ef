// devices, openDevice: see src/native/addon.ts. Only in the CUDA addon.
#ifdef VOICEGRPO_CUDA
#include "device_probe.h"

#include "common.h"
#include "register.h"

namespace vg::binding {

namespace {

Napi::Value devices(const Napi::CallbackInfo & info) {
    return guard(info.Env(), [&]() -> Napi::Value {
        const Napi::Env env = info.Env();
        const CudaProbe probe = probe_cuda();
        Napi::Object object = Napi::Object::New(env);
        object.Set("runtime", probe.runtime);
        object.Set("driver", probe.driver);
        object.Set("error", probe.error);
        object.Set("message", probe.message);
        Napi::Array list = Napi::Array::New(env, probe.devices.size());
        for (size_t i = 0; i < probe.devices.size(); i++) {
            const CudaDevice & device = probe.devices[i];
            Napi::Object entry = Napi::Object::New(env);
            entry.Set("index", device.index);
            entry.Set("name", device.name);
            entry.Set("computeCapability", std::to_string(device.major) + "." + std::to_string(device.minor));
            entry.Set("totalMemory", double(device.total));
            list.Set(uint32_t(i), entry);
        }
        object.Set("devices", list);
        object.Set("architectures", VOICEGRPO_CUDA_ARCHITECTURES);
        Napi::Object computes = Napi::Object::New(env);
        computes.Set("whisper", true);
#ifdef VOICEGRPO_CUDA_POLICY
        computes.Set("policy", true);
#else
        computes.Set("policy", false);
#endif
        object.Set("computes", computes);
        return object;
    });
}

Napi::Value open_device(const Napi::CallbackInfo & info) {
    return guard(info.Env(), [&]() -> Napi::Value {
        const Options options(info[0], "openDevice");
        const int index = int(options.integer("index", 0, 1023));
        const CudaOpened opened = open_cuda(index);
        if (opened.error.empty()) {
            use_cuda(index);
        }
        Napi::Object object = Napi::Object::New(info.Env());
        object.Set("error", opened.error);
        object.Set("message", opened.message);
        object.Set("freeMemory", double(opened.free));
        return object;
    });
}

}  // namespace

void register_devices(Napi::Env env, Napi::Object exports) {
    exports.Set("devices", Napi::Function::New(env, devices, "devices"));
    exports.Set("openDevice", Napi::Function::New(env, open_device, "openDevice"));
}

}  // namespace vg::binding
#endif
