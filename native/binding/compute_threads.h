// Threads that native work runs on, one call after another. An OpenMP runtime keeps a team for every thread that ever
// started one, and lets all teams sleep at once when there are more of them than cores; libuv's pool hands each call to
// another of its threads. So a call is passed on to the thread that was idle last, which owns the one team in use.
#pragma once

#include <functional>

namespace vg::binding {

// Runs f on a compute thread and returns when it is done. f must not throw.
void run_on_compute_thread(const std::function<void()> & f);

}  // namespace vg::binding
