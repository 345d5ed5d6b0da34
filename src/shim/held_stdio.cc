#include "shim/held_stdio.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <optional>
#include <string_view>

#include "base/file.h"

namespace shim {

namespace {

constexpr unsigned kNullMajor = 1;
constexpr unsigned kNullMinor = 3;
constexpr std::string_view kLogProgram = "binary://";

/// nullopt: there is no path, or it is /dev/null.
base::Result<std::optional<base::Fd>> open_fifo(const std::string& path);
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

std::vector<base::Fd> keep_readers(const Stdio& stdio) {
  std::vector<base::Fd> kept;
  for (const std::string& path : {stdio.stdout_path, stdio.stderr_path}) {
    auto fifo = open_fifo(path);
    if (fifo && *fifo) kept.push_back(std::move(**fifo));
  }
  return kept;
}

namespace {

base::Result<std::optional<base::Fd>> open_fifo(const std::string& path) {
  if (path.empty()) return std::optional<base::Fd>();
  // O_PATH first: looking must not have the effects that opening a FIFO (or a device) has.
  TRY(const base::Fd found, base::open_file(path, O_PATH | O_NOFOLLOW));
  struct stat st {};
  if (::fstat(found.get(), &st) != 0) return base::Error::from_errno(errno, base::str("looking at ", path));
  if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(kNullMajor, kNullMinor)) return std::optional<base::Fd>();
  if (!S_ISFIFO(st.st_mode)) {
    return base::Error::failed_precondition(
        base::str(path, " is neither a FIFO nor /dev/null: output cannot go there"));
  }
  TRY(base::Fd fifo, base::open_file(base::str("/proc/self/fd/", found.get()), O_RDWR | O_NONBLOCK));
  return std::optional<base::Fd>(std::move(fifo));
}

// Returns the path to give to the shim.
base::Result<std::string> hold(const std::string& path, std::vector<base::Fd>& held) {
  if (path.starts_with(kLogProgram)) return path;
  TRY(auto fifo, open_fifo(path));
  if (!fifo) return path.empty() ? std::string() : std::string("/dev/null");
  std::string name = base::str("/proc/", ::getpid(), "/fd/", fifo->get());
  held.push_back(*std::move(fifo));
  return name;
}

}  // namespace

}  // namespace shim
