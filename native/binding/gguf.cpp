// openGguf and quantizeRows: see src/native/addon.ts.
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>

#include "call.h"
#include "gguf_reader.h"
#include "quoted.h"
#include "register.h"

namespace vg::binding {

namespace {

// Rows come back in one array; a reader takes a large tensor in pieces.
constexpr int64_t max_values = int64_t{1} << 28;

class GgufHandle : public Handle<GgufHandle, const GgufFile> {
  public:
    using Handle::Handle;
    static constexpr const char * kName = "Gguf";
    static std::vector<Property> methods() {
        return {InstanceAccessor<&GgufHandle::Entries>("entries"), InstanceAccessor<&GgufHandle::Tensors>("tensors"),
                InstanceMethod<&GgufHandle::ReadRows>("readRows")};
    }

    Napi::Value Entries(const Napi::CallbackInfo & info) {
        Napi::Env env = info.Env();
        return guard(env, [&]() -> Napi::Value {
            const auto entries = core()->entries();
            Napi::Array list = Napi::Array::New(env, entries.size());
            for (size_t i = 0; i < entries.size(); ++i) {
                auto bytes = Napi::Uint8Array::New(env, entries[i].bytes.size());
                if (!entries[i].bytes.empty())
                    std::memcpy(bytes.Data(), entries[i].bytes.data(), entries[i].bytes.size());
                Napi::Object entry = Napi::Object::New(env);
                entry.Set("key", Napi::String::New(env, entries[i].key.data(), entries[i].key.size()));
                entry.Set("kind", entries[i].kind);
                entry.Set("bytes", bytes);
                list.Set(uint32_t(i), entry);
            }
            return list;
        });
    }

    Napi::Value Tensors(const Napi::CallbackInfo & info) {
        Napi::Env env = info.Env();
        return guard(env, [&]() -> Napi::Value {
            const auto & tensors = core()->tensors();
            Napi::Array list = Napi::Array::New(env, tensors.size());
            for (size_t i = 0; i < tensors.size(); ++i) {
                const GgufTensor & t = tensors[i];
                Napi::Array shape = Napi::Array::New(env, size_t(t.n_dims));
                for (int d = 0; d < t.n_dims; ++d)
                    shape.Set(uint32_t(d), double(t.ne[t.n_dims - 1 - d]));
                Napi::Object tensor = Napi::Object::New(env);
                tensor.Set("name", t.name);
                tensor.Set("shape", shape);
                tensor.Set("type", ggml_type_name(t.type));
                list.Set(uint32_t(i), tensor);
            }
            return list;
        });
    }

    Napi::Value ReadRows(const Napi::CallbackInfo & info) {
        Napi::Env env = info.Env();
        return guard(env, [&]() -> Napi::Value {
            const auto file = core();
            const std::string name = read_string(info[0], "readRows: `name`");
            const GgufTensor * tensor = file->find(name);
            if (tensor == nullptr)
                throw_argument("readRows: " + file->path() + " has no tensor " + quoted(name));
            const int64_t row = whole(info[1], "row"), rows = whole(info[2], "rows");
            const int64_t all = tensor->nelements() / tensor->ne[0];
            if (row > all || rows > all - row || rows > max_values / tensor->ne[0]) {
                throw_argument("readRows: rows " + std::to_string(row) + " + " + std::to_string(rows) + " of tensor " +
                               quoted(name) + ", which has " + std::to_string(all));
            }
            auto values = Napi::Float32Array::New(env, size_t(rows * tensor->ne[0]));
            GgufFile::to_f32(*tensor, row, rows, values.Data());
            return values;
        });
    }

  private:
    static int64_t whole(const Napi::Value & value, const char * name) {
        const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
        if (!(number >= 0 && number == std::floor(number) && number < 9e15))
            throw_argument(std::string("readRows: `") + name + "` must be a whole number of at least 0");
        return int64_t(number);
    }
};

Napi::Value OpenGguf(const Napi::CallbackInfo & info) {
    return guard_async(info.Env(), [&]() -> Napi::Value {
        const std::string path = read_string(info[0], "openGguf: `path`");
        auto file = std::make_shared<std::shared_ptr<const GgufFile>>();
        return Call(info.Env())
            .run([=](const AbortFlag &) { *file = GgufFile::open(path); },
                 [=](Napi::Env env) -> Napi::Value { return GgufHandle::wrap(env, *file); });
    });
}

// Types that ggml_quantize_chunk makes without a sample of activations; others end the process.
ggml_type quantized_type(const std::string & name) {
    for (const ggml_type type : {GGML_TYPE_Q8_0, GGML_TYPE_Q5_0, GGML_TYPE_Q4_K, GGML_TYPE_Q5_K, GGML_TYPE_Q6_K}) {
        if (name == ggml_type_name(type))
            return type;
    }
    throw_argument("quantizeRows: the type is " + quoted(name) + ", expected q8_0, q5_0, q4_K, q5_K or q6_K");
}

Napi::Value QuantizeRows(const Napi::CallbackInfo & info) {
    Napi::Env env = info.Env();
    return guard(env, [&]() -> Napi::Value {
        const ggml_type type = quantized_type(read_string(info[0], "quantizeRows: `type`"));
        const auto values = Options::typed_array<float>(info[1], "quantizeRows: `values`");
        const double given = info[2].IsNumber() ? info[2].As<Napi::Number>().DoubleValue() : 0;
        const int64_t block = ggml_blck_size(type);
        if (!(given >= 1 && given <= double(std::numeric_limits<int32_t>::max()) && given == std::floor(given)) ||
            int64_t(given) % block != 0 || values.size % size_t(given) != 0 || int64_t(values.size) > max_values) {
            throw_argument("quantizeRows: `rowLength` must be a multiple of " + std::to_string(block) + " for " +
                           ggml_type_name(type) + ", and `values` whole rows of it");
        }
        for (const float value : values) {
            if (!std::isfinite(value))
                throw vg::Error("E_NUMERIC", "quantizeRows: NaN or infinity among the values");
        }
        const int64_t row_length = int64_t(given), rows = int64_t(values.size) / row_length;
        auto bytes = Napi::Uint8Array::New(env, size_t(rows) * ggml_row_size(type, row_length));
        if (rows > 0)
            ggml_quantize_chunk(type, values.data, bytes.Data(), 0, rows, row_length, nullptr);
        return bytes;
    });
}

}  // namespace

void register_gguf(Napi::Env env, Napi::Object exports) {
    GgufHandle::define(env);
    exports.Set("openGguf", Napi::Function::New(env, OpenGguf, "openGguf"));
    exports.Set("quantizeRows", Napi::Function::New(env, QuantizeRows, "quantizeRows"));
}

}  // namespace vg::binding
