#include "driver/files/rootfs.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <deque>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/text.h"

namespace driver {

using base::Error;
using base::Result;
using base::Status;
using base::str;

namespace {

constexpr int kLinksMax = 40;  ///< as the kernel's own limit
constexpr std::size_t kComponentsMax = 4096;

Status check_etc(int rootfs_fd);
Result<mode_t> type_in_root(int rootfs_fd, const std::string& path);
std::string_view type_name(mode_t type);
Status push_components(std::string_view path, std::deque<std::string>& todo);
Result<std::string> read_link_in_root(int rootfs_fd, const std::vector<std::string>& parent, const std::string& name);
std::string join(const std::vector<std::string>& components);

}  // namespace

Status check_rootfs(int rootfs_fd) {
  TRY_VOID(check_etc(rootfs_fd));
  static constexpr std::array<const char*, 3> kDirectories = {"dev", "proc", "sys"};
  for (const char* name : kDirectories) {
    TRY(const mode_t type, type_in_root(rootfs_fd, name));
    if (type == 0 || type == S_IFDIR) continue;
    return Error::invalid_argument(str("the image's /", name, " is ", type_name(type),
                                       ", not a directory: such an image could make the runtime write outside of the "
                                       "container, so it is refused"));
  }
  static constexpr std::array<const char*, 6> kNoLinks = {"dev/null", "dev/console", "dev/pts",
                                                          "dev/tty",  "dev/zero",    "proc/self"};
  for (const char* name : kNoLinks) {
    TRY(const mode_t type, type_in_root(rootfs_fd, name));
    if (type != S_IFLNK) continue;
    return Error::invalid_argument(str("the image's /", name,
                                       " is a symbolic link: such an image could make the runtime write outside of the "
                                       "container, so it is refused"));
  }
  return {};
}

Status check_cwd(int rootfs_fd, const std::string& cwd) {
  if (cwd.empty() || cwd.front() != '/') {
    return Error::invalid_argument(str("working directory \"", cwd, "\" must be an absolute path"));
  }
  auto resolved = resolve_path_in_root(rootfs_fd, cwd);
  if (!resolved) return std::move(resolved).error().wrap(str("working directory \"", cwd, "\""));
  // Beneath /proc lie links to everything that a process has open (CVE-2024-21626).
  if (*resolved == "/proc" || resolved->starts_with("/proc/")) {
    return Error::invalid_argument(str("working directory \"", cwd, "\" is in /proc: use another"));
  }
  TRY(const mode_t type, type_in_root(rootfs_fd, *resolved == "/" ? "." : resolved->substr(1)));
  if (type != 0 && type != S_IFDIR) {
    return Error::invalid_argument(str("working directory \"", cwd, "\" is ", type_name(type), " in the image"));
  }
  return {};
}

// Component by component, because the kernel does not say where a path with a missing end would have led.
Result<std::string> resolve_path_in_root(int rootfs_fd, const std::string& path) {
  std::deque<std::string> todo;
  TRY_VOID(push_components(path, todo));
  std::vector<std::string> done;
  int links = 0;
  while (!todo.empty()) {
    const std::string name = std::move(todo.front());
    todo.pop_front();
    if (name == "..") {
      if (!done.empty()) done.pop_back();
      continue;
    }
    TRY(const std::string target, read_link_in_root(rootfs_fd, done, name));
    if (target.empty()) {
      done.push_back(name);
      continue;
    }
    if (++links > kLinksMax) return Error::invalid_argument(str("more than ", kLinksMax, " symbolic links"));
    if (target.front() == '/') done.clear();
    TRY_VOID(push_components(target, todo));
  }
  return join(done);
}

namespace {

// Some images have their /etc elsewhere, /usr/etc. That is resolved beneath the root, by us and by the runtime, and
// must not lead to where the kernel's own file systems are mounted.
Status check_etc(int rootfs_fd) {
  auto resolved = resolve_path_in_root(rootfs_fd, "/etc");
  if (!resolved) return std::move(resolved).error().wrap("the image's /etc");
  for (const std::string_view kernels : {"/", "/dev", "/proc", "/sys"}) {
    if (*resolved != kernels && !(kernels != "/" && resolved->starts_with(str(kernels, "/")))) continue;
    return Error::invalid_argument(str("the image's /etc is a symbolic link to ", *resolved,
                                       ", not to a folder of its own: such an image could make the runtime write "
                                       "outside of the container, so it is refused"));
  }
  TRY(const mode_t type, type_in_root(rootfs_fd, resolved->substr(1)));
  if (type == 0 || type == S_IFDIR) return {};
  return Error::invalid_argument(str("the image's /etc is ", type_name(type),
                                     ", not a directory: such an image could make the runtime write outside of the "
                                     "container, so it is refused"));
}

// S_IFMT bits of what `path` itself is, 0 if it is missing. Its parents are resolved inside the root.
Result<mode_t> type_in_root(int rootfs_fd, const std::string& path) {
  auto file = base::open_in_root(rootfs_fd, path, O_PATH | O_NOFOLLOW);
  if (!file) {
    const int err = file.error().sys_errno;
    if (err == ENOENT || err == ENOTDIR) return mode_t{0};
    return std::move(file).error();
  }
  struct stat info = {};
  if (::fstat(file->get(), &info) != 0) return Error::from_errno(errno, str("/", path, " of the image"));
  return static_cast<mode_t>(info.st_mode & S_IFMT);
}

std::string_view type_name(mode_t type) {
  switch (type) {
    case S_IFLNK:
      return "a symbolic link";
    case S_IFREG:
      return "a file";
    case S_IFDIR:
      return "a directory";
    default:
      return "a special file";
  }
}

// In front of what is left to do.
Status push_components(std::string_view path, std::deque<std::string>& todo) {
  const auto components = base::path_components(path);
  if (todo.size() + components.size() > kComponentsMax) {
    return Error::invalid_argument(str("more than ", kComponentsMax, " path components"));
  }
  todo.insert(todo.begin(), components.begin(), components.end());
  return {};
}

// The link's text; "" for anything else, also for what is missing. `parent` is free of links already.
Result<std::string> read_link_in_root(int rootfs_fd, const std::vector<std::string>& parent, const std::string& name) {
  std::string path = join(parent);
  path = path == "/" ? name : path.substr(1) + "/" + name;
  auto link = base::open_beneath(rootfs_fd, path, O_PATH | O_NOFOLLOW);
  if (!link) {
    const int err = link.error().sys_errno;
    if (err == ENOENT || err == ENOTDIR) return std::string();
    return std::move(link).error();
  }
  std::array<char, PATH_MAX> target;
  const ssize_t size = ::readlinkat(link->get(), "", target.data(), target.size());
  if (size >= 0) return std::string(target.data(), static_cast<std::size_t>(size));
  if (errno == EINVAL || errno == ENOENT) return std::string();
  return Error::from_errno(errno, str("/", path, " of the image"));
}

std::string join(const std::vector<std::string>& components) {
  std::string path;
  for (const std::string& component : components) path += "/" + component;
  return path.empty() ? "/" : path;
}

}  // namespace
}  // namespace driver
