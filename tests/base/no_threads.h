// A place where no thread and no process can be had: a child of the test, of a user whose processes are counted, with
// the limit below what it has.
#pragma once

#include <grp.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

namespace tests {

inline bool allow_threads(bool allow) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NPROC, &limit) != 0) return false;
  limit.rlim_cur = allow ? limit.rlim_max : 0;
  return ::setrlimit(RLIMIT_NPROC, &limit) == 0;
}

/// Runs `look` there and returns its result: false if it said so, threw, or died. Call it while the test has no
/// threads.
inline bool without_threads(const std::function<bool()>& look) {
  const pid_t child = ::fork();
  if (child == 0) {
    constexpr uid_t kNobody = 65534;
    if (::geteuid() == 0 && (::setgroups(0, nullptr) != 0 || ::setresuid(kNobody, kNobody, kNobody) != 0)) ::_exit(2);
    ::_exit(allow_threads(false) && look() ? 0 : 1);
  }
  int status = -1;
  return child > 0 && ::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace tests
