// Where a file that a job names lies on the host (the source of a bind mount, an image archive), and how it is opened.
// It may lie in a folder that a task can write to, now or in an earlier run: links in it are followed without leaving
// that folder, and what counts is the descriptor that was opened, never the path a second time (stage.h).
#pragma once

#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"
#include "driver/values/task_spec.h"

namespace driver {

/// The folders that Nomad made for a task, on the host. All "" without an allocation (command line).
struct TaskDirs {
  std::string alloc;    ///< <alloc_dir>/alloc, shared by the group's tasks
  std::string task;     ///< <alloc_dir>/<task>
  std::string local;    ///< <alloc_dir>/<task>/local
  std::string secrets;  ///< <alloc_dir>/<task>/secrets
};
TaskDirs task_dirs(const TaskSpec& spec);

struct MountSource {
  std::string base;  ///< "" for an absolute path of the host
  std::string path;  ///< absolute, or relative to base ("." = base itself)
  bool operator==(const MountSource&) const = default;
};

/// Pure. "local/x", "secrets/x", "alloc/x" (and "../alloc/x", as seen from the task's folder) are below Nomad's
/// folders, other relative paths below the task's folder (where templates and artifacts land), absolute ones the
/// host's.
///   errors  kInvalidArgument naming `source`: the task's folder itself or its `private`, ".." that leaves it, a
///           relative path without an allocation
base::Result<MountSource> resolve_mount_source(const std::string& source, const TaskDirs& dirs);
/// The same for other things than mounts, called `what` in errors.
base::Result<MountSource> resolve_source(std::string_view what, const std::string& source, const TaskDirs& dirs);

struct OpenSource {
  base::Fd fd;       ///< O_PATH
  std::string path;  ///< where it was when it was opened, without links
  bool directory = false;
};

/// Opens an existing source, whatever it is: O_PATH waits for nothing and has no effects. Magic links of /proc are not
/// followed.
///   errors  kInvalidArgument naming the source when it does not exist or leads outside of its base
base::Result<OpenSource> open_mount_source(const MountSource& source);
base::Result<OpenSource> open_source(std::string_view what, const MountSource& source);

/// Makes a missing source below a task's folder: an empty directory, and those on the way to it (root, 0755).
/// Absolute sources are left alone: a misspelt path must not appear on the host.
///   errors  kInvalidArgument naming the source
base::Status make_mount_source(const MountSource& source);

/// `path` is `dir` or lies below it; both without links.
bool is_within(std::string_view path, std::string_view dir);

}  // namespace driver
