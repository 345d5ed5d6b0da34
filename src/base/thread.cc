#include "base/thread.h"

#include <pthread.h>
#include <signal.h>

#include <exception>
#include <utility>

namespace base {

Result<std::jthread> start_thread(std::string name, std::function<void(const std::stop_token&)> body) {
  auto guarded = [name = name.substr(0, 15), body = std::move(body)](const std::stop_token& stop) {
    ::pthread_setname_np(::pthread_self(), name.c_str());
    try {
      body(stop);
    } catch (const std::exception& e) {
      // Nothing of ours throws: this is bad_alloc or a library's exception that was not stopped at its call.
      check_failed(name.c_str(), 0, e.what());
    }
  };
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  std::jthread thread;
  try {
    thread = std::jthread(std::move(guarded));
  } catch (const std::exception&) {  // system_error of EAGAIN, bad_alloc
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!thread.joinable()) return start_failed(EAGAIN, str("starting the thread ", name));
  return thread;
}

Result<std::jthread> start_thread(std::string name, std::function<void()> body) {
  return start_thread(std::move(name), [body = std::move(body)](const std::stop_token&) { body(); });
}

Error start_failed(int err, std::string_view what) {
  if (err != EAGAIN) return Error::from_errno(err, what);
  return {Code::kResourceExhausted,
          str(what, ": no more processes and threads are allowed: raise the limit (TasksMax, pids.max, ulimit -u)"),
          EAGAIN};
}

}  // namespace base
