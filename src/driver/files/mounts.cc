#include "driver/files/mounts.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>
#include <span>

namespace driver {

using base::Error;
using base::Result;
using base::Status;
using base::str;

namespace {

namespace fs = std::filesystem;

Status add_task_dirs(const TaskSpec& spec, const TaskDirs& dirs, std::vector<Mount>& mounts);
Status add_nomad_mounts(const TaskSpec& spec, std::vector<Mount>& mounts);
Status add_logs(const TaskDirs& dirs, std::vector<Mount>& mounts);
Status add_job_mounts(const TaskSpec& spec, const TaskDirs& dirs, HostFiles host_files, std::vector<Mount>& mounts);
Result<Mount> bind_mount(const MountOption& wanted, const TaskDirs& dirs, HostFiles host_files);
Result<MountSource> within_allocation(const MountSource& source, const std::string& path, const TaskDirs& dirs);
Result<std::string> normalize_target(std::string_view what, const std::string& target);
Status check_target(const std::string& target);
Result<std::string> propagation_option(const NomadMount& mount);
std::vector<std::string> bind_options(std::vector<std::string> options);
std::vector<std::string> tmpfs_options(std::vector<std::string> options);
bool contains_any(const std::vector<std::string>& options, std::span<const std::string_view> wanted);
Status check_distinct(const std::vector<Mount>& mounts);

constexpr std::array<std::string_view, 8> kPropagation = {"private", "rprivate", "shared",     "rshared",
                                                          "slave",   "rslave",   "unbindable", "runbindable"};
constexpr std::array<std::string_view, 2> kBind = {"bind", "rbind"};
constexpr std::array<std::string_view, 2> kSuid = {"suid", "nosuid"};
constexpr std::array<std::string_view, 2> kDev = {"dev", "nodev"};

}  // namespace

Result<std::vector<Mount>> plan_mounts(const TaskSpec& spec, HostFiles host_files) {
  const TaskDirs dirs = task_dirs(spec);
  std::vector<Mount> mounts;
  TRY_VOID(add_task_dirs(spec, dirs, mounts));
  TRY_VOID(add_nomad_mounts(spec, mounts));
  TRY_VOID(add_job_mounts(spec, dirs, host_files, mounts));
  TRY_VOID(check_distinct(mounts));
  const auto depth = [](const Mount& mount) {
    return std::count(mount.destination.begin(), mount.destination.end(), '/');
  };
  std::stable_sort(mounts.begin(), mounts.end(), [&](const Mount& a, const Mount& b) { return depth(a) < depth(b); });
  return mounts;
}

namespace {

// The targets come from the environment, because that is where the agent tells the task to look. Only root can write to
// the folders that these three lie in.
Status add_task_dirs(const TaskSpec& spec, const TaskDirs& dirs, std::vector<Mount>& mounts) {
  if (spec.alloc_dir.empty()) return {};
  const auto add = [&](const char* variable, const std::string& source, std::vector<std::string> options) -> Status {
    const auto it = spec.env.find(variable);
    if (it == spec.env.end() || it->second.empty()) return {};
    TRY(std::string target, normalize_target(variable, it->second));
    TRY(OpenSource found, open_mount_source({"", source}));
    mounts.push_back({std::move(target), "bind", std::move(found.path), std::move(options)});
    return {};
  };
  TRY_VOID(add("NOMAD_ALLOC_DIR", dirs.alloc, {"rbind", "rprivate", "rw"}));
  if (!mounts.empty()) TRY_VOID(add_logs(dirs, mounts));
  TRY_VOID(add("NOMAD_TASK_DIR", dirs.local, {"rbind", "rprivate", "rw"}));
  TRY_VOID(add("NOMAD_SECRETS_DIR", dirs.secrets, {"rbind", "rprivate", "rw", "nosuid", "nodev", "noexec"}));
  return {};
}

// The agent's log files: a task must not be able to put links in their place. What an earlier task of the group put in
// place of the whole folder must not be followed either.
Status add_logs(const TaskDirs& dirs, std::vector<Mount>& mounts) {
  const std::string logs = dirs.alloc + "/logs";
  struct stat info = {};
  if (::lstat(logs.c_str(), &info) != 0 && errno == ENOENT) return {};
  if (!S_ISDIR(info.st_mode)) {
    return Error::invalid_argument(str(
        logs, " is not a directory: a task of this allocation has replaced it, so the allocation must be replaced"));
  }
  mounts.push_back({mounts.back().destination + "/logs",
                    "bind",
                    logs,
                    {"rbind", "rprivate", "ro"},
                    MountSource{dirs.alloc, "logs"}});
  return {};
}

Status add_nomad_mounts(const TaskSpec& spec, std::vector<Mount>& mounts) {
  for (const NomadMount& wanted : spec.mounts) {
    TRY(std::string target, normalize_target("volume", wanted.task_path));
    TRY(std::string propagation, propagation_option(wanted));
    MountSource from{"", wanted.host_path};
    TRY(OpenSource source, open_mount_source(from));
    mounts.push_back({std::move(target),
                      "bind",
                      std::move(source.path),
                      {"rbind", std::move(propagation), wanted.readonly ? "ro" : "rw"},
                      std::move(from)});
  }
  return {};
}

Status add_job_mounts(const TaskSpec& spec, const TaskDirs& dirs, HostFiles host_files, std::vector<Mount>& mounts) {
  for (const MountOption& wanted : spec.options.mounts) {
    TRY(std::string target, normalize_target("mounts", wanted.target));
    TRY_VOID(check_target(target));
    if (wanted.type == "tmpfs") {
      mounts.push_back({std::move(target), "tmpfs", "tmpfs", tmpfs_options(wanted.options)});
      continue;
    }
    TRY(Mount mount, bind_mount(wanted, dirs, host_files));
    mount.destination = std::move(target);
    mounts.push_back(std::move(mount));
  }
  return {};
}

Result<Mount> bind_mount(const MountOption& wanted, const TaskDirs& dirs, HostFiles host_files) {
  TRY(MountSource from, resolve_mount_source(wanted.source, dirs));
  if (wanted.make_source) TRY_VOID(make_mount_source(from));
  TRY(OpenSource source, open_mount_source(from));
  if (!dirs.task.empty() && from.base.empty()) {
    auto inside = within_allocation(from, source.path, dirs);
    if (inside) {
      from = std::move(*inside);
    } else if (host_files == HostFiles::kNo || inside.error().code != base::Code::kPermissionDenied) {
      return std::move(inside).error();
    }
  }
  return Mount{"", "bind", std::move(source.path), bind_options(wanted.options), std::move(from)};
}

// An absolute source in a folder of the task's own, as seen from that folder: what leads there now may lead elsewhere
// when it is opened again.
Result<MountSource> within_allocation(const MountSource& source, const std::string& path, const TaskDirs& dirs) {
  for (const std::string* dir : {&dirs.local, &dirs.secrets, &dirs.alloc, &dirs.task}) {
    TRY(const OpenSource base, open_mount_source({"", *dir}));
    if (!is_within(path, base.path)) continue;
    const std::string rest = path.substr(std::min(path.size(), base.path.size() + 1));
    if (dir != &dirs.task) return MountSource{*dir, rest.empty() ? "." : rest};
    return resolve_mount_source(rest, dirs);
  }
  return Error::permission_denied(str("mount source ", source.path,
                                      " is outside of the allocation, which this node does not allow "
                                      "(volumes.enabled): use local/, secrets/ or alloc/, or a volume of Nomad"));
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

// The runtime would say so too, but with the names of its own functions.
Status check_target(const std::string& target) {
  static constexpr std::array<std::string_view, 9> kReplaceable = {"/proc/cpuinfo", "/proc/diskstats", "/proc/loadavg",
                                                                   "/proc/meminfo", "/proc/net/dev",   "/proc/slabinfo",
                                                                   "/proc/stat",    "/proc/swaps",     "/proc/uptime"};
  if (!is_within(target, "/proc") ||
      std::find(kReplaceable.begin(), kReplaceable.end(), target) != kReplaceable.end()) {
    return {};
  }
  return Error::invalid_argument(
      str("mounts: target ", target, " is in /proc, where a container's own files must stay"));
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
          str("two mounts have the target ", mount.destination, ": give each its own target"));
    }
  }
  return {};
}

}  // namespace
}  // namespace driver
