// Asynchronous calls: work on another thread, a promise, an AbortSignal, a function that is told things meanwhile.
// Everything here runs on the JavaScript thread, except the `work` function given to Call::run, and Listener::tell.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include <napi.h>

#include "common.h"

namespace vg::binding {

// guard for a method that returns a promise: whatever is thrown before the work starts rejects the promise.
Napi::Value guard_async(Napi::Env env, const std::function<Napi::Value()> & f);

// Set by the AbortSignal, and when the environment goes down. The core polls it and throws vg::Error("E_ABORTED", …).
using AbortFlag = std::atomic<bool>;

// A JavaScript function that a running call tells things to. The function is called on the JavaScript thread, in the
// order of tell(), and for the last time before the call's promise is settled. What it throws rejects the promise with
// that value and sets the abort flag; after that, and once the call is aborted, it is not called again.
class Listener {
  public:
    // From any thread. make: builds the argument, on the JavaScript thread.
    virtual void tell(std::function<Napi::Value(Napi::Env)> make) = 0;

  protected:
    ~Listener() = default;
};

class ListenerQueue;

// One asynchronous call: collects what belongs to it, then runs.
//
//   return guard_async(env, [&]() -> Napi::Value {
//       auto core = this->core();                                   // E_CLOSED here
//       Call call(env, lane());
//       Options options(info[0], "rollout");
//       auto tokens = shared_copy(options.array<int32_t>("promptTokens"));
//       call.signal(info[1]);
//       auto result = std::make_shared<RolloutResult>();
//       return call.run([=](const AbortFlag & abort) { *result = core->rollout(…, abort); },   // worker thread, no
//       N-API
//                       [=](Napi::Env env) -> Napi::Value { return to_js(env, *result); });    // JavaScript thread
//   });
//
// `finish` must not touch the core: the next call on the lane may be running by then. Whatever it tells, `work` has put
// into the result.
class Call {
  public:
    // lane: calls on it run one after another; null: no order.
    explicit Call(Napi::Env env, std::shared_ptr<Lane> lane = nullptr) : env_(env), lane_(std::move(lane)) {}
    ~Call();
    Call(const Call &) = delete;

    void signal(const Napi::Value & abort_signal);  // an AbortSignal, undefined or null
    // function: E_ARGUMENT with `name` where it is none. At most one for a call.
    std::shared_ptr<Listener> listener(const Napi::Value & function, const std::string & name);

    // An AbortSignal that has already fired rejects with E_ABORTED and the work never starts.
    Napi::Value run(std::function<void(const AbortFlag &)> work, std::function<Napi::Value(Napi::Env)> finish);

  private:
    Napi::Env env_;
    std::shared_ptr<Lane> lane_;
    Napi::Value signal_;
    std::shared_ptr<AbortFlag> abort_ = std::make_shared<AbortFlag>(false);
    std::shared_ptr<ListenerQueue> listener_;
};

}  // namespace vg::binding
