#include "compute_threads.h"

#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace vg::binding {

namespace {

class ComputeThread {
  public:
    ComputeThread() {
        std::thread([this] { serve(); }).detach();
    }

    void run(const std::function<void()> & f) {
        std::unique_lock lock(mutex_);
        job_ = &f;
        wake_.notify_all();
        wake_.wait(lock, [this] { return job_ == nullptr; });
    }

  private:
    void serve() {
        std::unique_lock lock(mutex_);
        for (;;) {
            wake_.wait(lock, [this] { return job_ != nullptr; });
            lock.unlock();
            (*job_)();
            lock.lock();
            job_ = nullptr;
            wake_.notify_all();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_;
    const std::function<void()> * job_ = nullptr;
};

// Never destroyed: its threads wait until the process ends.
struct Idle {
    std::mutex mutex;
    std::vector<ComputeThread *> threads;
};
Idle & idle() {
    static Idle * const all = new Idle;
    return *all;
}

}  // namespace

void run_on_compute_thread(const std::function<void()> & f) {
    ComputeThread * thread = nullptr;
    {
        std::lock_guard lock(idle().mutex);
        if (!idle().threads.empty()) {
            thread = idle().threads.back();
            idle().threads.pop_back();
        }
    }
    if (thread == nullptr) {
        try {
            thread = new ComputeThread;
        } catch (const std::system_error &) {  // no more threads: slower, but right
            return f();
        }
    }
    thread->run(f);
    std::lock_guard lock(idle().mutex);
    idle().threads.push_back(thread);
}

}  // namespace vg::binding
