#include "call.h"

#include <mutex>
#include <optional>

#include "compute_threads.h"

namespace vg::binding {

Napi::Value guard_async(Napi::Env env, const std::function<Napi::Value()> & f) {
    try {
        auto deferred = Napi::Promise::Deferred::New(env);
        try {
            return guard(env, f);
        } catch (const Napi::Error & error) {
            deferred.Reject(error.Value());
        }
        return deferred.Promise();
    } catch (const Napi::Error &) {
        // A worker thread is being terminated: nothing can be thrown into it, and trying to ends the process.
        return {};
    }
}

// The queue is ours: Node's thread-safe function only wakes the JavaScript thread. So the end of the call can empty the
// queue itself, before it settles the promise, and nothing touches the thread-safe function once the environment goes
// down, when Node frees it whoever still uses it.
class ListenerQueue final : public Listener, public std::enable_shared_from_this<ListenerQueue> {
  public:
    ListenerQueue(std::shared_ptr<AbortFlag> abort) : abort_(std::move(abort)) {}

    void open(Napi::Env env, const Napi::Function & function) {
        env_ = env;
        function_ = Napi::Persistent(function);
        auto * hold = new std::shared_ptr<ListenerQueue>(shared_from_this());
        const napi_status status = napi_create_threadsafe_function(
            env, nullptr, nullptr, Napi::String::New(env, "voicegrpo listener"), 0, 1, nullptr,
            [](napi_env, void *, void * held) { delete static_cast<std::shared_ptr<ListenerQueue> *>(held); }, hold,
            [](napi_env env, napi_value, void * held, void *) {
                if (env) {  // null: the environment goes down, and what was held may be gone
                    const auto queue = *static_cast<std::shared_ptr<ListenerQueue> *>(held);
                    queue->drain();
                }
            },
            &wake_);
        if (status != napi_ok) {
            delete hold;
            throw vg::Error("E_INTERNAL", "Node.js has no thread-safe function left");
        }
        napi_unref_threadsafe_function(env, wake_);  // the call itself keeps the process alive
        open_ = true;
        // Hooks run in the reverse order: this one before Node's own for the thread-safe function.
        napi_add_env_cleanup_hook(env, close_hook, this);
    }

    void tell(std::function<Napi::Value(Napi::Env)> make) override {
        std::lock_guard lock(mutex_);
        if (open_) {
            waiting_.push_back(std::move(make));
            napi_call_threadsafe_function(wake_, nullptr, napi_tsfn_nonblocking);
        }
    }

    // JavaScript thread, as all below. Calls the function with what has been told so far.
    void drain() {
        Napi::HandleScope scope(env_);
        while (!thrown_ && !abort_->load()) {
            std::function<Napi::Value(Napi::Env)> make;
            {
                std::lock_guard lock(mutex_);
                if (waiting_.empty()) {
                    return;
                }
                make = std::move(waiting_.front());
                waiting_.pop_front();
            }
            Napi::HandleScope inner(env_);
            try {
                guard(env_, [&] { function_.Call({make(env_)}); });
            } catch (const Napi::Error & error) {
                thrown_ = std::make_unique<Napi::Error>(error);
                abort_->store(true);
            }
        }
    }

    const Napi::Error * thrown() const { return thrown_.get(); }

    // Before the end of the call.
    void close() {
        if (shut()) {
            napi_remove_env_cleanup_hook(env_, close_hook, this);
        }
        function_.Reset();
    }

  private:
    static void close_hook(void * self) { static_cast<ListenerQueue *>(self)->shut(); }

    bool shut() {
        std::lock_guard lock(mutex_);
        if (!open_) {
            return false;
        }
        open_ = false;
        waiting_.clear();
        napi_release_threadsafe_function(wake_, napi_tsfn_abort);
        return true;
    }

    Napi::Env env_{nullptr};
    Napi::FunctionReference function_;
    std::shared_ptr<AbortFlag> abort_;
    std::unique_ptr<Napi::Error> thrown_;
    std::mutex mutex_;  // of the three below
    napi_threadsafe_function wake_ = nullptr;
    bool open_ = false;
    std::deque<std::function<Napi::Value(Napi::Env)>> waiting_;
};

// Lives from Call::run to the end of the call; Napi::AsyncWorker deletes it.
class Worker : public Napi::AsyncWorker {
  public:
    Worker(Napi::Env env, std::shared_ptr<Lane> lane, std::shared_ptr<AbortFlag> abort,
           std::shared_ptr<ListenerQueue> listener, std::function<void(const AbortFlag &)> && work,
           std::function<Napi::Value(Napi::Env)> && finish)
        : Napi::AsyncWorker(env, "voicegrpo"), deferred_(Napi::Promise::Deferred::New(env)), lane_(std::move(lane)),
          work_(std::move(work)), finish_(std::move(finish)), abort_(std::move(abort)), told_(std::move(listener)) {
        // process.exit() waits for the thread pool: stop what runs.
        napi_add_env_cleanup_hook(env, set_abort, abort_.get());
    }

    ~Worker() override {
        if (told_) {
            told_->close();
        }
        napi_remove_env_cleanup_hook(Env(), set_abort, abort_.get());
    }

    Napi::Promise promise() const { return deferred_.Promise(); }

    void listen(const Napi::Object & signal) {
        auto flag = abort_;
        auto listener = Napi::Function::New(Env(), [flag](const Napi::CallbackInfo &) { flag->store(true); });
        Napi::Object once = Napi::Object::New(Env());
        once.Set("once", true);
        signal.Get("addEventListener")
            .As<Napi::Function>()
            .Call(signal, {Napi::String::New(Env(), "abort"), listener, once});
        signal_ = Napi::Persistent(signal);
        listener_ = Napi::Persistent(listener);
    }

    void start() {
        if (lane_ && lane_->busy) {
            lane_->waiting.push_back(this);
            return;
        }
        if (lane_) {
            lane_->busy = true;
        }
        Queue();
    }

    void Execute() override {
        run_on_compute_thread([this] { execute(); });
    }

    void OnOK() override {
        Napi::HandleScope scope(Env());
        // A worker thread that was terminated runs no JavaScript any more, and nobody waits for the promise.
        const auto unless_terminated = [](auto && run) {
            try {
                run();
            } catch (const Napi::Error &) {
            } catch (const std::exception &) {  // no memory for the error itself
            }
        };
        next();
        unless_terminated([this] { forget_signal(); });
        work_ = nullptr;  // what it captured goes before JavaScript runs on
        unless_terminated([this] { settle(); });
    }

  private:
    void execute() {
        try {
            if (abort_->load()) {
                throw vg::Error("E_ABORTED", "the call was aborted before it began");
            }
            work_(*abort_);
        } catch (const vg::Error & error) {
            failure_ = error;
        } catch (const std::bad_alloc &) {
            failure_ = vg::Error("E_LIMIT", "out of memory", "use a smaller model, batch or completion length");
        } catch (const std::exception & error) {
            failure_ = vg::Error("E_INTERNAL", error.what());
        } catch (...) {
            failure_ = vg::Error("E_INTERNAL", "an exception of unknown type");
        }
    }

    void settle() {
        if (told_) {
            told_->drain();
            if (told_->thrown()) {
                deferred_.Reject(told_->thrown()->Value());
                return;
            }
        }
        if (failure_) {
            deferred_.Reject(make_error(Env(), *failure_).Value());
            return;
        }
        std::optional<Napi::Error> unfinished;
        try {
            Napi::Value value = guard(Env(), [&] { return finish_(Env()); });
            deferred_.Resolve(value);
        } catch (const Napi::Error & error) {
            unfinished = error;
        }
        if (unfinished) {
            deferred_.Reject(unfinished->Value());
        }
    }

    static void set_abort(void * flag) { static_cast<AbortFlag *>(flag)->store(true); }

    void next() {
        if (!lane_) {
            return;
        }
        if (lane_->waiting.empty()) {
            lane_->busy = false;
            return;
        }
        Worker * worker = lane_->waiting.front();
        lane_->waiting.pop_front();
        worker->Queue();
    }

    void forget_signal() {
        if (signal_.IsEmpty()) {
            return;
        }
        Napi::Object signal = signal_.Value();
        signal.Get("removeEventListener")
            .As<Napi::Function>()
            .Call(signal, {Napi::String::New(Env(), "abort"), listener_.Value()});
        signal_.Reset();
        listener_.Reset();
    }

    Napi::Promise::Deferred deferred_;
    std::shared_ptr<Lane> lane_;
    std::function<void(const AbortFlag &)> work_;
    std::function<Napi::Value(Napi::Env)> finish_;
    std::shared_ptr<AbortFlag> abort_;
    std::shared_ptr<ListenerQueue> told_;
    std::optional<vg::Error> failure_;
    Napi::ObjectReference signal_;
    Napi::FunctionReference listener_;
};

Call::~Call() {
    if (listener_) {  // the call never ran
        listener_->close();
    }
}

void Call::signal(const Napi::Value & abort_signal) {
    if (abort_signal.IsUndefined() || abort_signal.IsNull()) {
        return;
    }
    if (!abort_signal.IsObject() || !abort_signal.As<Napi::Object>().Get("addEventListener").IsFunction()) {
        throw_argument("`signal` must be an AbortSignal, got " + describe(abort_signal));
    }
    signal_ = abort_signal;
}

std::shared_ptr<Listener> Call::listener(const Napi::Value & function, const std::string & name) {
    if (!function.IsFunction()) {
        throw_argument(name + " must be a function, got " + describe(function));
    }
    listener_ = std::make_shared<ListenerQueue>(abort_);
    listener_->open(env_, function.As<Napi::Function>());
    return listener_;
}

Napi::Value Call::run(std::function<void(const AbortFlag &)> work, std::function<Napi::Value(Napi::Env)> finish) {
    if (!signal_.IsEmpty() && signal_.As<Napi::Object>().Get("aborted").ToBoolean()) {
        throw vg::Error("E_ABORTED", "the call was aborted before it began");
    }
    auto * worker = new Worker(env_, lane_, abort_, std::move(listener_), std::move(work), std::move(finish));
    Napi::Promise promise = worker->promise();
    if (!signal_.IsEmpty()) {
        worker->listen(signal_.As<Napi::Object>());
    }
    worker->start();
    return promise;
}

}  // namespace vg::binding
