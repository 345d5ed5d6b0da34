#include "driver/life/teardown.h"

#include <stdio.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "driver/files/stage.h"
#include "oci/overlay.h"
#include "shim/bundle.h"
#include "shim/cgroup.h"

namespace driver {

namespace {
using base::Context;
using base::Status;
using base::str;

Status remove_container_cgroup(const Context& ctx, const std::string& cgroup_path);
Status discard_task_dir(const std::string& task_dir);
}  // namespace

Status teardown(const Context& ctx, const Record& record) {
  const TaskNames& names = record.names;
  Status first;
  const auto step = [&first, &record](const char* what, Status status) {
    if (status) return;
    LOG_WARN("teardown step failed", {{"task", record.id.text}, {"step", what}, {"error", status.error().message}});
    if (first) first = std::move(status).error().wrap(what);
  };

  // After a reboot the recorded pid is somebody else's.
  const bool same_boot = record.boot_id == base::boot_id() && record.shim.pid > 0;
  const auto shim = same_boot ? std::optional(record.shim) : std::nullopt;
  step("removing the shim and its container", shim::delete_forced(ctx, record.shim_options(), names.shim(), shim));
  step("unmounting the sources of its mounts", unstage_mounts(names.mounts_dir()));
  step("unmounting the root file system", oci::unmount_all(names.rootfs_dir));
  step("removing the bundle", shim::remove_bundle(names.shim()));
  step("removing the cgroup", remove_container_cgroup(ctx, names.cgroup_path));
  if (!first) return first;
  return discard_task_dir(names.task_dir);
}

Status teardown_garbage(const Context& ctx, const Roots& roots, const std::string& task_dir,
                        const shim::ShimOptions& options) {
  Record record;
  const std::string container_id = std::filesystem::path(task_dir).filename();
  record.id.text = container_id;
  record.names = plan_names(TaskSpec{}, roots);  // for the roots; what depends on the id is replaced below
  record.names.container_id = container_id;
  record.names.task_dir = task_dir;
  record.names.bundle_dir = str(roots.state_dir, "/bundles/", container_id);
  record.names.rootfs_dir = record.names.bundle_dir + "/rootfs";
  const std::size_t tail = std::min<std::size_t>(16, container_id.size());
  record.names.shim_socket = str(roots.state_dir, "/s/", container_id.substr(container_id.size() - tail));
  record.names.shim_cgroup = str("containerd-driver/shims/", container_id);
  record.names.cgroup_path = str("/containerd-driver/containers/", container_id);
  record.shim_binary = options.shim_binary;
  record.runtime_binary = options.runtime_binary;
  record.runtime_root = options.runtime_root;
  return teardown(ctx, record);
}

Status empty_trash(const std::string& data_dir) {
  std::error_code ec;
  Status first;
  for (const auto& entry : std::filesystem::directory_iterator(data_dir + "/trash", ec)) {
    if (!entry.path().filename().string().starts_with("task-")) continue;  // images' trash is the store's business
    Status removed = base::remove_tree(entry.path());
    if (!removed && first) first = std::move(removed);
  }
  return first;
}

namespace {

// The runtime removes the container's cgroup itself; this is for what a crash left. Only below our own parent: below
// /nomad the agent made the folder and may want it again.
Status remove_container_cgroup(const Context& ctx, const std::string& cgroup_path) {
  if (!cgroup_path.starts_with("/containerd-driver/containers/")) return {};
  return shim::remove_cgroup(ctx, cgroup_path);
}

// The record goes with its folder: one rename makes the task unknown, whatever size its writable layer has.
Status discard_task_dir(const std::string& task_dir) {
  const std::filesystem::path dir(task_dir);
  const std::filesystem::path trash = dir.parent_path().parent_path() / "trash";
  TRY_VOID(base::make_dirs(trash, 0700));
  const std::filesystem::path target = trash / str("task-", dir.filename().native());
  TRY_VOID(base::remove_tree(target));  // of an earlier, interrupted removal
  if (::rename(dir.c_str(), target.c_str()) != 0) {
    if (errno == ENOENT) return {};
    return base::Error::from_errno(errno, str("moving ", task_dir, " to the trash"));
  }
  FAULT_POINT("teardown.trashed");
  return base::remove_tree(target);
}

}  // namespace
}  // namespace driver
