// measureProduct: see src/native/addon.ts.
#include <memory>
#include <string>

#include "call.h"
#include "product_benchmark.h"
#include "register.h"

namespace vg::binding {

namespace {

ggml_type type_of(const std::string & name) {
    for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0}) {
        if (name == ggml_type_name(type))
            return type;
    }
    throw_argument("measureProduct: the type is \"" + name + "\", expected f32, f16, bf16 or q8_0");
}

Napi::Value measure(const Napi::CallbackInfo & info) {
    return guard_async(info.Env(), [&]() -> Napi::Value {
        const Options options(info[0], "measureProduct");
        ProductShape shape;
        constexpr int64_t longest = 1 << 20;
        shape.type = type_of(options.string("type", "f32"));
        const std::string direction = options.string("direction", "forward");
        if (direction != "forward" && direction != "backward")
            throw_argument("measureProduct: the direction is \"" + direction + "\", expected forward or backward");
        shape.transposed = direction == "backward";
        shape.m = options.integer("m", 1, longest);
        shape.n = options.integer("n", 1, longest);
        shape.k = options.integer("k", 1, longest);
        if (shape.type == GGML_TYPE_Q8_0 && (shape.transposed ? shape.n : shape.k) % 32 != 0)
            throw_argument("measureProduct: rows of q8_0 must be a multiple of 32 long");
        shape.threads = int(options.integer("threads", 1, 512));
        shape.seconds = options.number("seconds", 0);
        Call call(info.Env());
        call.signal(info[1]);
        auto result = std::make_shared<ProductRate>();
        return call.run([=](const AbortFlag & abort) { *result = measure_product(shape, &abort); },
                        [=](Napi::Env env) -> Napi::Value {
                            Napi::Object object = Napi::Object::New(env);
                            object.Set("gflops", result->gflops);
                            object.Set("best", result->best);
                            object.Set("repetitions", double(result->repetitions));
                            return object;
                        });
    });
}

}  // namespace

void register_benchmark(Napi::Env env, Napi::Object exports) {
    exports.Set("measureProduct", Napi::Function::New(env, measure, "measureProduct"));
}

}  // namespace vg::binding
