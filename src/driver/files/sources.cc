#include "driver/files/sources.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>

#include "base/file.h"

namespace driver {

using base::Error;
using base::Result;
using base::Status;
using base::str;

namespace {

namespace fs = std::filesystem;

constexpr mode_t kMadeMode = 0755;
constexpr std::string_view kMountSource = "mount source";

Error refusal(std::string_view what, const MountSource& source, Error why);
Result<base::Fd> open_or_make_dir(const base::Fd& parent, const std::string& name);
Result<std::string> fd_path(int fd);

}  // namespace

TaskDirs task_dirs(const TaskSpec& spec) {
  if (spec.alloc_dir.empty()) return {};
  const std::string task = str(spec.alloc_dir, "/", spec.name);
  return {str(spec.alloc_dir, "/alloc"), task, task + "/local", task + "/secrets"};
}

Result<MountSource> resolve_mount_source(const std::string& source, const TaskDirs& dirs) {
  return resolve_source(kMountSource, source, dirs);
}

Result<MountSource> resolve_source(std::string_view what, const std::string& source, const TaskDirs& dirs) {
  if (source.starts_with('/')) return MountSource{"", source};
  if (dirs.task.empty()) {
    return Error::invalid_argument(str(what, " \"", source, "\" is relative: use an absolute path"));
  }
  const fs::path path = fs::path(source).lexically_normal();
  const auto below = [](const std::string& base, fs::path::iterator part, fs::path::iterator end) {
    fs::path rest;
    for (; part != end; ++part) rest /= *part;
    std::string text = rest.string();
    while (text.ends_with('/')) text.pop_back();
    return MountSource{base, text.empty() ? "." : text};
  };
  auto part = path.begin();
  const std::string first = part == path.end() ? "" : part->string();
  if (first == "local") return below(dirs.local, ++part, path.end());
  if (first == "secrets") return below(dirs.secrets, ++part, path.end());
  if (first == "alloc") return below(dirs.alloc, ++part, path.end());
  if (first == ".." && ++part != path.end() && *part == "alloc") return below(dirs.alloc, ++part, path.end());
  if (first.empty() || first == "." || first == ".." || first == "private") {
    return Error::invalid_argument(str(what, " \"", source,
                                       "\" is not in a folder of the task's own: begin it with local/, secrets/ or "
                                       "alloc/, or use an absolute path"));
  }
  return below(dirs.task, path.begin(), path.end());
}

Result<OpenSource> open_mount_source(const MountSource& source) {
  return open_source(kMountSource, source);
}

Result<OpenSource> open_source(std::string_view what, const MountSource& source) {
  const auto unusable = [&](std::string_view why) { return refusal(what, source, Error::invalid_argument(str(why))); };
  auto base_fd = base::open_dir(source.base.empty() ? "/" : source.base);
  if (!base_fd) return refusal(what, source, std::move(base_fd).error());
  auto file = base::open_in_root(base_fd->get(), source.path, O_PATH);
  if (!file) {
    if (file.error().sys_errno != ENOENT) return refusal(what, source, std::move(file).error());
    return unusable(source.base.empty() ? "it does not exist on this host"
                                        : "it does not exist, or is a link to outside of the task's folders");
  }
  TRY(std::string path, fd_path(file->get()));
  if (!source.base.empty()) {
    TRY(const std::string base_path, fd_path(base_fd->get()));
    if (!is_within(path, base_path)) return unusable("it moved while it was looked up");
    if (is_within(path, base_path + "/private")) return unusable("`private` is Nomad's own folder");
  }
  struct stat info = {};
  if (::fstat(file->get(), &info) != 0) return refusal(what, source, Error::from_errno(errno, "fstat"));
  return OpenSource{std::move(*file), std::move(path), S_ISDIR(info.st_mode)};
}

Status make_mount_source(const MountSource& source) {
  if (source.base.empty()) return {};
  TRY(base::Fd dir, base::open_dir(source.base));
  std::string done;
  for (const fs::path& part : fs::path(source.path)) {
    if (part == ".") continue;
    // Links on the way are followed inside the base, so a link in the middle is not a reason to make anything.
    done += (done.empty() ? "" : "/") + part.string();
    TRY(const base::Fd base, base::open_dir(source.base));
    auto next = base::open_in_root(base.get(), done, O_PATH);
    if (!next && next.error().sys_errno == ENOENT) next = open_or_make_dir(dir, part.string());
    if (!next) return refusal(kMountSource, source, std::move(next).error());
    dir = std::move(*next);
  }
  return {};
}

bool is_within(std::string_view path, std::string_view dir) {
  if (!path.starts_with(dir)) return false;
  return path.size() == dir.size() || dir.ends_with('/') || path[dir.size()] == '/';
}

namespace {

Error refusal(std::string_view what, const MountSource& source, Error why) {
  const std::string full = source.base.empty() ? source.path : str(source.base, "/", source.path);
  return std::move(why).recode(base::Code::kInvalidArgument).wrap(str(what, " ", full, " cannot be used"));
}

Result<base::Fd> open_or_make_dir(const base::Fd& parent, const std::string& name) {
  const bool made = ::mkdirat(parent.get(), name.c_str(), kMadeMode) == 0;
  if (!made && errno != EEXIST) return Error::from_errno(errno, str("making ", name));
  // A dangling link, or one that was put there meanwhile, is not followed.
  TRY(base::Fd dir, base::open_beneath(parent.get(), name, O_RDONLY | O_DIRECTORY));
  // Our umask lets nobody in, and the task's user may be any.
  if (made && ::fchmod(dir.get(), kMadeMode) != 0) return Error::from_errno(errno, str("making ", name));
  return dir;
}

Result<std::string> fd_path(int fd) {
  std::array<char, PATH_MAX> target;
  const ssize_t size = ::readlink(str("/proc/self/fd/", fd).c_str(), target.data(), target.size());
  if (size < 0) return Error::from_errno(errno, "the path of an open file");
  return std::string(target.data(), static_cast<std::size_t>(size));
}

}  // namespace
}  // namespace driver
