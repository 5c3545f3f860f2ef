// What every binding shares: errors, argument readers, views over native memory, and handles. These files and their
// neighbours are the only ones that see napi.h. Everything here runs on the JavaScript thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <napi.h>

#include "error.h"

namespace vg::binding {

// --- errors
// ---------------------------------------------------------------------------------------------------------------

// A JavaScript Error with `code` and `hint`.
Napi::Error make_error(Napi::Env env, const vg::Error & error);

[[noreturn]] void throw_argument(const std::string & message);  // vg::Error E_ARGUMENT

// Runs f; a vg::Error becomes a JavaScript Error, any other C++ exception E_INTERNAL. Wrap each synchronous method in
// it.
template <class F> auto guard(Napi::Env env, F && f) -> decltype(f()) {
    try {
        return f();
    } catch (const Napi::Error &) {
        throw;
    } catch (const vg::Error & error) {
        throw make_error(env, error);
    } catch (const std::exception & error) {
        throw make_error(env, vg::Error("E_INTERNAL", error.what()));
    }
}

// --- arguments
// ------------------------------------------------------------------------------------------------------------

template <class T> struct Span {
    T * data = nullptr;
    size_t size = 0;

    T * begin() const { return data; }
    T * end() const { return data + size; }
    T & operator[](size_t i) const { return data[i]; }
};

// What came, in a few words: `"abc"`, `12`, `undefined`, `an object`.
std::string describe(const Napi::Value & value);

std::string read_string(const Napi::Value & value, const std::string & name);

template <class T> std::vector<T> copy(Span<T> span) { return std::vector<T>(span.begin(), span.end()); }

// For the functions of a call, which are copied.
template <class T> std::shared_ptr<const std::vector<T>> shared_copy(Span<T> span) {
    return std::make_shared<const std::vector<T>>(span.begin(), span.end());
}

// Reads the fields of an options object. `where` names the call in messages: "rollout: `topP` must be …".
class Options {
  public:
    Options(const Napi::Value & value, std::string where);

    bool has(const char * key) const;         // false for a missing, undefined or null field
    Napi::Value get(const char * key) const;  // throws when the field is missing

    int64_t integer(const char * key, int64_t low, int64_t high) const;
    int64_t integer(const char * key, int64_t low, int64_t high, int64_t fallback) const;
    double number(const char * key, double low = -std::numeric_limits<double>::max(),
                  double high = std::numeric_limits<double>::max()) const;
    bool boolean(const char * key) const;
    bool boolean(const char * key, bool fallback) const;
    std::string string(const char * key) const;
    std::string string(const char * key, const std::string & fallback) const;
    std::vector<std::string> strings(const char * key) const;

    // A typed array of exactly this element type, in place. Valid until JavaScript runs again, which can move the
    // memory away even while a reference holds the array: asynchronous work gets a copy. Memory that is shared with
    // other threads or that can be resized is refused. expected: number of elements, or -1 for any.
    template <class T> Span<T> array(const char * key, int64_t expected = -1) const {
        return typed_array<T>(get(key), where_ + ": `" + key + "`", expected);
    }

    template <class T>
    static Span<T> typed_array(const Napi::Value & value, const std::string & name, int64_t expected = -1);

    const std::string & where() const { return where_; }

  private:
    [[noreturn]] void wrong(const char * key, const std::string & expected, const Napi::Value & value) const;

    Napi::Object object_;
    std::string where_;
};

// --- values
// ---------------------------------------------------------------------------------------------------------------

// A typed array over native memory, without a copy. `owner` is held until JavaScript forgets the view, so the memory
// outlives every view of it. Make one view of a place and keep it; do not make two over the same address.
template <class Array, class T> Array make_view(Napi::Env env, std::shared_ptr<void> owner, T * data, size_t count) {
    static_assert(sizeof(T) == sizeof(*std::declval<Array>().Data()), "element type and array type differ");
    if (count == 0) {
        return Array::New(env, 0);
    }
    auto * hold = new std::shared_ptr<void>(std::move(owner));
    auto buffer = Napi::ArrayBuffer::New(
        env, data, count * sizeof(T), [](Napi::Env, void *, std::shared_ptr<void> * held) { delete held; }, hold);
    return Array::New(env, count, buffer, 0);
}

// A vector handed to JavaScript: its memory becomes the array's.
template <class Array, class T> Array give_vector(Napi::Env env, std::vector<T> && values) {
    auto owner = std::make_shared<std::vector<T>>(std::move(values));
    T * data = owner->data();
    return make_view<Array>(env, owner, data, owner->size());
}

// --- handles
// --------------------------------------------------------------------------------------------------------------

class Worker;

// Calls on one native object run one after another, in the order they were made. Only the JavaScript thread touches a
// lane, so it needs no lock, and a waiting call occupies no thread.
struct Lane {
    bool busy = false;
    std::deque<Worker *> waiting;
};

// Base of the JavaScript objects that stand for a native one. `Core` is held by shared_ptr: running calls and views
// hold it too, so close() during a call is safe, and a parent that its children point to outlives them.
//
//   class PolicyHandle : public Handle<PolicyHandle, vg::Policy> {
//     public:
//       using Handle::Handle;
//       static constexpr const char * kName = "Policy";
//       static std::vector<PropertyDescriptor> methods() { return {InstanceMethod<&PolicyHandle::Rollout>("rollout")};
//       } Napi::Value Rollout(const Napi::CallbackInfo & info);
//   };
//   PolicyHandle::define(env);                       // once, in register_policy
//   return PolicyHandle::wrap(env, core);            // a new JavaScript object
//   PolicyHandle * p = PolicyHandle::from(value, "rollout: `adapter`");  // an argument that must be one
template <class Self, class Core> class Handle : public Napi::ObjectWrap<Self> {
  public:
    using Property = typename Napi::ObjectWrap<Self>::PropertyDescriptor;

    explicit Handle(const Napi::CallbackInfo & info) : Napi::ObjectWrap<Self>(info) {}

    static void define(Napi::Env env);
    // lane: shared between handles whose calls must not overlap, for instance an adapter with its policy; null: its
    // own.
    static Napi::Object wrap(Napi::Env env, std::shared_ptr<Core> core, std::shared_ptr<Lane> lane = nullptr);
    static Self * from(const Napi::Value & value, const std::string & name);

    // Throws E_CLOSED after close().
    const std::shared_ptr<Core> & core() const {
        if (!core_) {
            throw vg::Error("E_CLOSED", std::string(Self::kName) + " is closed", "open it again before calling it");
        }
        return core_;
    }
    const std::shared_ptr<Lane> & lane() const { return lane_; }

    void close() { core_.reset(); }
    Napi::Value Close(const Napi::CallbackInfo & info) {
        close();
        return info.Env().Undefined();
    }

  private:
    std::shared_ptr<Core> core_;
    std::shared_ptr<Lane> lane_;
};

// Constructors of the handle classes, kept for each environment: worker_threads load the addon once more.
std::map<std::string, Napi::FunctionReference> & constructors(Napi::Env env);

// --- template bodies
// ------------------------------------------------------------------------------------------------------

template <class Self, class Core> void Handle<Self, Core>::define(Napi::Env env) {
    std::vector<Property> properties = Self::methods();
    properties.push_back(Napi::ObjectWrap<Self>::InstanceMethod("close", &Self::Close));
    Napi::Value dispose = env.Global().Get("Symbol").As<Napi::Object>().Get("dispose");
    if (dispose.IsSymbol()) {
        properties.push_back(Napi::ObjectWrap<Self>::InstanceMethod(dispose.As<Napi::Symbol>(), &Self::Close));
    }
    constructors(env)[Self::kName] =
        Napi::Persistent(Napi::ObjectWrap<Self>::DefineClass(env, Self::kName, properties));
}

template <class Self, class Core>
Napi::Object Handle<Self, Core>::wrap(Napi::Env env, std::shared_ptr<Core> core, std::shared_ptr<Lane> lane) {
    Napi::Object object = constructors(env).at(Self::kName).New({});
    Self * self = Napi::ObjectWrap<Self>::Unwrap(object);
    self->core_ = std::move(core);
    self->lane_ = lane ? std::move(lane) : std::make_shared<Lane>();
    return object;
}

template <class Self, class Core> Self * Handle<Self, Core>::from(const Napi::Value & value, const std::string & name) {
    if (!value.IsObject() || !value.As<Napi::Object>().InstanceOf(constructors(value.Env()).at(Self::kName).Value())) {
        throw_argument(name + " must be a " + Self::kName + " of this addon");
    }
    return Napi::ObjectWrap<Self>::Unwrap(value.As<Napi::Object>());
}

}  // namespace vg::binding
