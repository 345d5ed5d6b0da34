#include "driver/mounts.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>
#include <span>

#include "base/file.h"

namespace driver {

using base::Error;
using base::Result;
using base::Status;
using base::str;

namespace {

namespace fs = std::filesystem;

Status add_task_dirs(const TaskSpec& spec, const TaskDirs& dirs, std::vector<Mount>& mounts);
Status add_nomad_mounts(const TaskSpec& spec, std::vector<Mount>& mounts);
Status add_job_mounts(const TaskSpec& spec, const TaskDirs& dirs, std::vector<Mount>& mounts);
Result<std::string> normalize_target(std::string_view what, const std::string& target);
Result<std::string> propagation_option(const NomadMount& mount);
std::vector<std::string> bind_options(std::vector<std::string> options);
std::vector<std::string> tmpfs_options(std::vector<std::string> options);
bool contains_any(const std::vector<std::string>& options, std::span<const std::string_view> wanted);
Status check_distinct(const std::vector<Mount>& mounts);
std::string fd_path(int fd);

constexpr std::array<std::string_view, 8> kPropagation = {"private", "rprivate", "shared",     "rshared",
                                                          "slave",   "rslave",   "unbindable", "runbindable"};
constexpr std::array<std::string_view, 2> kBind = {"bind", "rbind"};
constexpr std::array<std::string_view, 2> kSuid = {"suid", "nosuid"};
constexpr std::array<std::string_view, 2> kDev = {"dev", "nodev"};

}  // namespace

TaskDirs task_dirs(const TaskSpec& spec) {
  if (spec.alloc_dir.empty()) return {};
  const std::string task = str(spec.alloc_dir, "/", spec.name);
  return {str(spec.alloc_dir, "/alloc"), task, task + "/local", task + "/secrets"};
}

Result<MountSource> resolve_mount_source(const std::string& source, const TaskDirs& dirs) {
  if (source.starts_with('/')) return MountSource{"", source};
  if (dirs.task.empty()) {
    return Error::invalid_argument(str("mount source \"", source, "\" is relative: use an absolute path"));
  }
  const fs::path path = fs::path(source).lexically_normal();
  auto part = path.begin();
  if (part != path.end() && *part == "..") {
    ++part;  // "../alloc", as seen from the task's folder
    if (part == path.end() || *part != "alloc") part = path.end();
  }
  const std::string first = part == path.end() ? "" : part->string();
  const std::string* base = first == "local"     ? &dirs.local
                            : first == "secrets" ? &dirs.secrets
                            : first == "alloc"   ? &dirs.alloc
                                                 : nullptr;
  if (base == nullptr) {
    return Error::invalid_argument(str("mount source \"", source,
                                       "\" is outside of the task's folders: begin it with local/, secrets/ or alloc/, "
                                       "or use an absolute path"));
  }
  fs::path rest;
  for (++part; part != path.end(); ++part) rest /= *part;
  return MountSource{*base, rest.empty() ? "." : rest.string()};
}

Result<std::string> locate_mount_source(const MountSource& source) {
  const auto missing = [&](const std::string& why) {
    const std::string full = source.base.empty() ? source.path : str(source.base, "/", source.path);
    return Error::invalid_argument(str("mount source ", full, " cannot be used: ", why));
  };
  if (source.base.empty()) {
    struct stat info = {};
    if (::stat(source.path.c_str(), &info) == 0) return source.path;
    return missing(errno == ENOENT ? "it does not exist on this host" : Error::from_errno(errno, "stat").message);
  }
  auto base_fd = base::open_dir(source.base);
  if (!base_fd) return missing(base_fd.error().message);
  auto file = base::open_in_root(base_fd->get(), source.path, O_PATH);
  if (!file) {
    return missing(file.error().sys_errno == ENOENT ? "it does not exist, or is a link to outside of the task's folders"
                                                    : file.error().message);
  }
  // Where the links led: the runtime gets a path without any, beneath the base.
  const std::string real_base = fd_path(base_fd->get());
  const std::string real = fd_path(file->get());
  if (real != real_base && !real.starts_with(real_base + "/")) return missing("it moved while it was looked up");
  return real;
}

Result<std::vector<Mount>> plan_mounts(const TaskSpec& spec) {
  const TaskDirs dirs = task_dirs(spec);
  std::vector<Mount> mounts;
  TRY_VOID(add_task_dirs(spec, dirs, mounts));
  TRY_VOID(add_nomad_mounts(spec, mounts));
  TRY_VOID(add_job_mounts(spec, dirs, mounts));
  TRY_VOID(check_distinct(mounts));
  const auto depth = [](const Mount& mount) {
    return std::count(mount.destination.begin(), mount.destination.end(), '/');
  };
  std::stable_sort(mounts.begin(), mounts.end(), [&](const Mount& a, const Mount& b) { return depth(a) < depth(b); });
  return mounts;
}

namespace {

// The targets come from the environment, because that is where the agent tells the task to look.
Status add_task_dirs(const TaskSpec& spec, const TaskDirs& dirs, std::vector<Mount>& mounts) {
  if (spec.alloc_dir.empty()) return {};
  const auto add = [&](const char* variable, const std::string& source, std::vector<std::string> options) -> Status {
    const auto it = spec.env.find(variable);
    if (it == spec.env.end() || it->second.empty()) return {};
    TRY(std::string target, normalize_target(variable, it->second));
    TRY(std::string real, locate_mount_source({"", source}));
    mounts.push_back({std::move(target), "bind", std::move(real), std::move(options)});
    return {};
  };
  TRY_VOID(add("NOMAD_ALLOC_DIR", dirs.alloc, {"rbind", "rprivate", "rw"}));
  // The agent's log files: a task must not be able to put links in their place.
  const std::string logs = dirs.alloc + "/logs";
  if (!mounts.empty() && ::access(logs.c_str(), F_OK) == 0) {
    mounts.push_back({mounts.back().destination + "/logs", "bind", logs, {"rbind", "rprivate", "ro"}});
  }
  TRY_VOID(add("NOMAD_TASK_DIR", dirs.local, {"rbind", "rprivate", "rw"}));
  TRY_VOID(add("NOMAD_SECRETS_DIR", dirs.secrets, {"rbind", "rprivate", "rw", "nosuid", "nodev", "noexec"}));
  return {};
}

Status add_nomad_mounts(const TaskSpec& spec, std::vector<Mount>& mounts) {
  for (const NomadMount& wanted : spec.mounts) {
    TRY(std::string target, normalize_target("volume", wanted.task_path));
    TRY(std::string propagation, propagation_option(wanted));
    TRY(std::string source, locate_mount_source({"", wanted.host_path}));
    mounts.push_back({std::move(target),
                      "bind",
                      std::move(source),
                      {"rbind", std::move(propagation), wanted.readonly ? "ro" : "rw"}});
  }
  return {};
}

Status add_job_mounts(const TaskSpec& spec, const TaskDirs& dirs, std::vector<Mount>& mounts) {
  for (const MountOption& wanted : spec.options.mounts) {
    TRY(std::string target, normalize_target("mounts", wanted.target));
    if (wanted.type == "tmpfs") {
      mounts.push_back({std::move(target), "tmpfs", "tmpfs", tmpfs_options(wanted.options)});
      continue;
    }
    TRY(const MountSource source, resolve_mount_source(wanted.source, dirs));
    TRY(std::string real, locate_mount_source(source));
    mounts.push_back({std::move(target), "bind", std::move(real), bind_options(wanted.options)});
  }
  return {};
}

Result<std::string> normalize_target(std::string_view what, const std::string& target) {
  std::string clean = fs::path(target).lexically_normal().string();
  while (clean.size() > 1 && clean.ends_with('/')) clean.pop_back();
  if (!clean.starts_with('/') || clean == "/") {
    return Error::invalid_argument(
        str(what, ": mount target \"", target, "\" must be an absolute path inside the container, and not / itself"));
  }
  return clean;
}

Result<std::string> propagation_option(const NomadMount& mount) {
  if (mount.propagation.empty() || mount.propagation == "private") return std::string("rprivate");
  if (mount.propagation == "host-to-task") return std::string("rslave");
  if (mount.propagation == "bidirectional") return std::string("rshared");
  return Error::invalid_argument(str("volume at ", mount.task_path, ": propagation mode \"", mount.propagation,
                                     "\" is not known: use private, host-to-task or bidirectional"));
}

// Whatever its type is called: without a bind flag the kernel would look for a file system of that name.
std::vector<std::string> bind_options(std::vector<std::string> options) {
  if (!contains_any(options, kBind)) options.insert(options.begin(), "rbind");
  if (!contains_any(options, kPropagation)) options.emplace_back("rprivate");
  return options;
}

std::vector<std::string> tmpfs_options(std::vector<std::string> options) {
  if (!contains_any(options, kSuid)) options.emplace_back("nosuid");
  if (!contains_any(options, kDev)) options.emplace_back("nodev");
  return options;
}

bool contains_any(const std::vector<std::string>& options, std::span<const std::string_view> wanted) {
  return std::any_of(options.begin(), options.end(), [&](const std::string& option) {
    return std::find(wanted.begin(), wanted.end(), option) != wanted.end();
  });
}

Status check_distinct(const std::vector<Mount>& mounts) {
  std::set<std::string_view> seen;
  for (const Mount& mount : mounts) {
    if (!seen.insert(mount.destination).second) {
      return Error::invalid_argument(
          str("two mounts have the target ", mount.destination, ": give each a place of its own"));
    }
  }
  return {};
}

std::string fd_path(int fd) {
  std::array<char, PATH_MAX> target;
  const ssize_t size = ::readlink(str("/proc/self/fd/", fd).c_str(), target.data(), target.size());
  return size < 0 ? std::string() : std::string(target.data(), static_cast<std::size_t>(size));
}

}  // namespace
}  // namespace driver
