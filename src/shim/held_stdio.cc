#include "shim/held_stdio.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/file.h"

namespace shim {

namespace {

constexpr unsigned kNullMajor = 1;
constexpr unsigned kNullMinor = 3;

base::Result<std::string> hold(const std::string& path, std::vector<base::Fd>& held);

}  // namespace

base::Result<HeldStdio> open_stdio(const Stdio& stdio) {
  HeldStdio out;
  out.paths.terminal = stdio.terminal;
  TRY(out.paths.stdin_path, hold(stdio.stdin_path, out.held));
  TRY(out.paths.stdout_path, hold(stdio.stdout_path, out.held));
  TRY(out.paths.stderr_path, hold(stdio.stderr_path, out.held));
  return out;
}

namespace {

// Returns the path to give to the shim.
base::Result<std::string> hold(const std::string& path, std::vector<base::Fd>& held) {
  if (path.empty()) return std::string();
  // O_PATH first: looking must not have the effects that opening a FIFO (or a device) has.
  TRY(const base::Fd found, base::open_file(path, O_PATH | O_NOFOLLOW));
  struct stat st {};
  if (::fstat(found.get(), &st) != 0) return base::Error::from_errno(errno, base::str("looking at ", path));
  if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(kNullMajor, kNullMinor)) return std::string("/dev/null");
  if (!S_ISFIFO(st.st_mode)) {
    return base::Error::failed_precondition(
        base::str(path, " is neither a FIFO nor /dev/null: output cannot go there"));
  }
  const std::string found_name = base::str("/proc/self/fd/", found.get());
  TRY(base::Fd both_ends, base::open_file(found_name, O_RDWR | O_NONBLOCK));
  std::string name = base::str("/proc/", ::getpid(), "/fd/", both_ends.get());
  held.push_back(std::move(both_ends));
  return name;
}

}  // namespace

}  // namespace shim
