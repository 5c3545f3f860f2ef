// What every binding shares: errors, argument readers, views over native memory, handles, and the one promise worker.
// These files and their neighbours are the only ones that see napi.h. Everything here runs on the JavaScript thread,
// except the `work` function given to Call::run.
#pragma once

#include <atomic>
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

// The same for a method that returns a promise: whatever is thrown before the work starts rejects the promise.
Napi::Value guard_async(Napi::Env env, const std::function<Napi::Value()> & f);

// --- arguments
// ------------------------------------------------------------------------------------------------------------

template <class T> struct Span {
    T * data = nullptr;
    size_t size = 0;

    T * begin() const { return data; }
    T * end() const { return data + size; }
    T & operator[](size_t i) const { return data[i]; }
};

std::string read_string(const Napi::Value & value, const std::string & name);

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

    // A typed array of exactly this element type, in place; it lives as long as the JavaScript array. For asynchronous
    // work read it through Call::array, which keeps it alive. expected: number of elements, or -1 for any.
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

// --- the promise worker
// ---------------------------------------------------------------------------------------------------

// Set by the AbortSignal, and when the environment goes down. The core polls it and throws vg::Error("E_ABORTED", …).
using AbortFlag = std::atomic<bool>;

// One asynchronous call: collects what must stay alive, then runs.
//
//   return guard_async(env, [&]() -> Napi::Value {
//       auto core = this->core();                                   // E_CLOSED here
//       Call call(env, lane());
//       Options options(info[0], "rollout");
//       auto tokens = call.array<int32_t>(options, "promptTokens"); // in place; the array is kept alive
//       call.signal(info[1]);
//       auto result = std::make_shared<RolloutResult>();
//       return call.run([=](const AbortFlag & abort) { *result = core->rollout(…, abort); },   // worker thread, no
//       N-API
//                       [=](Napi::Env env) -> Napi::Value { return to_js(env, *result); });    // JavaScript thread
//   });
class Call {
  public:
    // lane: calls on it run one after another; null: no order.
    explicit Call(Napi::Env env, std::shared_ptr<Lane> lane = nullptr) : env_(env), lane_(std::move(lane)) {}

    template <class T> Span<T> array(const Options & options, const char * key, int64_t expected = -1) {
        keep(options.get(key));
        return options.array<T>(key, expected);
    }

    void keep(const Napi::Value & value);           // until the call has ended
    void signal(const Napi::Value & abort_signal);  // an AbortSignal, undefined or null

    // An AbortSignal that has already fired rejects with E_ABORTED and the work never starts.
    Napi::Value run(std::function<void(const AbortFlag &)> work, std::function<Napi::Value(Napi::Env)> finish);

  private:
    Napi::Env env_;
    std::shared_ptr<Lane> lane_;
    std::vector<Napi::ObjectReference> kept_;
    Napi::Value signal_;
};

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
