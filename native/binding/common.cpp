#include "common.h"

#include <cmath>
#include <cstdio>

namespace vg::binding {

// --- errors
// ---------------------------------------------------------------------------------------------------------------

Napi::Error make_error(Napi::Env env, const vg::Error & error) {
    Napi::Error made = Napi::Error::New(env, error.what());
    made.Set("code", Napi::String::New(env, error.code));
    made.Set("hint", Napi::String::New(env, error.hint));
    return made;
}

void throw_argument(const std::string & message) { throw vg::Error("E_ARGUMENT", message); }

// --- arguments
// ------------------------------------------------------------------------------------------------------------

namespace {

std::string number_text(double value) {
    char text[32];
    std::snprintf(text, sizeof(text), "%.10g", value);
    return text;
}

}  // namespace

std::string describe(const Napi::Value & value) {
    switch (value.Type()) {
        case napi_undefined:
            return "undefined";
        case napi_null:
            return "null";
        case napi_boolean:
            return value.As<Napi::Boolean>() ? "true" : "false";
        case napi_number:
            return number_text(value.As<Napi::Number>().DoubleValue());
        case napi_string: {
            std::string text = value.As<Napi::String>();
            return text.size() <= 40 ? "\"" + text + "\"" : "a string of " + std::to_string(text.size()) + " bytes";
        }
        case napi_function:
            return "a function";
        case napi_object:
            if (value.IsArray()) {
                return "an array";
            }
            return value.IsTypedArray() ? "another kind of typed array" : "an object";
        default:
            return "something else";
    }
}

std::string read_string(const Napi::Value & value, const std::string & name) {
    if (!value.IsString()) {
        throw_argument(name + " must be a string, got " + describe(value));
    }
    return value.As<Napi::String>();
}

Options::Options(const Napi::Value & value, std::string where) : where_(std::move(where)) {
    if (!value.IsObject()) {
        throw_argument(where_ + ": expected an options object, got " + describe(value));
    }
    object_ = value.As<Napi::Object>();
}

void Options::wrong(const char * key, const std::string & expected, const Napi::Value & value) const {
    throw_argument(where_ + ": `" + key + "` must be " + expected + ", got " + describe(value));
}

bool Options::has(const char * key) const {
    Napi::Value value = object_.Get(key);
    return !value.IsUndefined() && !value.IsNull();
}

Napi::Value Options::get(const char * key) const {
    if (!has(key)) {
        throw_argument(where_ + ": `" + key + "` is missing");
    }
    return object_.Get(key);
}

double Options::number(const char * key, double low, double high) const {
    Napi::Value value = get(key);
    double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
    if (!std::isfinite(number) || number < low || number > high) {
        bool bounded = high < std::numeric_limits<double>::max() || low > -std::numeric_limits<double>::max();
        wrong(key, bounded ? "a number from " + number_text(low) + " to " + number_text(high) : "a finite number",
              value);
    }
    return number;
}

int64_t Options::integer(const char * key, int64_t low, int64_t high) const {
    Napi::Value value = get(key);
    double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
    if (std::isnan(number) || number != std::floor(number) || number < double(low) || number > double(high)) {
        wrong(key, "a whole number from " + std::to_string(low) + " to " + std::to_string(high), value);
    }
    return int64_t(number);
}

int64_t Options::integer(const char * key, int64_t low, int64_t high, int64_t fallback) const {
    return has(key) ? integer(key, low, high) : fallback;
}

bool Options::boolean(const char * key) const {
    Napi::Value value = get(key);
    if (!value.IsBoolean()) {
        wrong(key, "true or false", value);
    }
    return value.As<Napi::Boolean>();
}

bool Options::boolean(const char * key, bool fallback) const { return has(key) ? boolean(key) : fallback; }

std::string Options::string(const char * key) const {
    Napi::Value value = get(key);
    if (!value.IsString()) {
        wrong(key, "a string", value);
    }
    return value.As<Napi::String>();
}

std::string Options::string(const char * key, const std::string & fallback) const {
    return has(key) ? string(key) : fallback;
}

std::vector<std::string> Options::strings(const char * key) const {
    Napi::Value value = get(key);
    if (!value.IsArray()) {
        wrong(key, "an array of strings", value);
    }
    Napi::Array array = value.As<Napi::Array>();
    std::vector<std::string> strings;
    for (uint32_t i = 0; i < array.Length(); i++) {
        Napi::Value item = array.Get(i);
        if (!item.IsString()) {
            wrong(key, "an array of strings", value);
        }
        strings.push_back(item.As<Napi::String>());
    }
    return strings;
}

namespace {

template <class T> struct ArrayKind;
template <> struct ArrayKind<float> {
    static constexpr napi_typedarray_type type = napi_float32_array;
    static constexpr const char * name = "Float32Array";
};
template <> struct ArrayKind<double> {
    static constexpr napi_typedarray_type type = napi_float64_array;
    static constexpr const char * name = "Float64Array";
};
template <> struct ArrayKind<int32_t> {
    static constexpr napi_typedarray_type type = napi_int32_array;
    static constexpr const char * name = "Int32Array";
};
template <> struct ArrayKind<uint32_t> {
    static constexpr napi_typedarray_type type = napi_uint32_array;
    static constexpr const char * name = "Uint32Array";
};
template <> struct ArrayKind<uint8_t> {
    static constexpr napi_typedarray_type type = napi_uint8_array;
    static constexpr const char * name = "Uint8Array";
};

}  // namespace

template <class T> Span<T> Options::typed_array(const Napi::Value & value, const std::string & name, int64_t expected) {
    if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != ArrayKind<T>::type) {
        throw_argument(name + " must be a " + ArrayKind<T>::name + ", got " + describe(value));
    }
    const Napi::Object memory = value.As<Napi::TypedArray>().ArrayBuffer();
    if (!memory.IsArrayBuffer() || memory.Get("resizable").ToBoolean()) {
        throw vg::Error("E_ARGUMENT",
                        name + " must have memory of its own, got a " + ArrayKind<T>::name + " over a " +
                            (memory.IsArrayBuffer() ? "resizable ArrayBuffer" : "shared buffer"),
                        "pass a copy: `array.slice()`");
    }
    auto array = value.As<Napi::TypedArrayOf<T>>();
    if (expected >= 0 && int64_t(array.ElementLength()) != expected) {
        throw_argument(name + " must have " + std::to_string(expected) + " elements, got " +
                       std::to_string(array.ElementLength()));
    }
    return {array.Data(), array.ElementLength()};
}

template Span<float> Options::typed_array<float>(const Napi::Value &, const std::string &, int64_t);
template Span<double> Options::typed_array<double>(const Napi::Value &, const std::string &, int64_t);
template Span<int32_t> Options::typed_array<int32_t>(const Napi::Value &, const std::string &, int64_t);
template Span<uint32_t> Options::typed_array<uint32_t>(const Napi::Value &, const std::string &, int64_t);
template Span<uint8_t> Options::typed_array<uint8_t>(const Napi::Value &, const std::string &, int64_t);

// --- handles
// --------------------------------------------------------------------------------------------------------------

std::map<std::string, Napi::FunctionReference> & constructors(Napi::Env env) {
    using Map = std::map<std::string, Napi::FunctionReference>;
    Map * map = env.GetInstanceData<Map>();
    if (!map) {
        map = new Map();
        env.SetInstanceData<Map>(map);
    }
    return *map;
}

}  // namespace vg::binding
