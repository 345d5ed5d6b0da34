#include "driver/life/teardown.h"

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
}  // namespace

Status teardown(const Context& ctx, const TaskStore& store, const Record& record) {
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
  return store.discard(names.container_id);
}

Status teardown_unreadable(const Context& ctx, const TaskStore& store, const std::string& container_id,
                           const Programs& programs) {
  Record record;
  record.id.text = container_id;
  record.names = names_of(container_id, store.roots());
  record.state_dir = store.roots().state_dir;
  record.shim_binary = programs.shim;
  record.runtime_binary = programs.runtime;
  return teardown(ctx, store, record);
}

namespace {

// The runtime removes the container's cgroup itself; this is for what a crash left. Only below our own parent: below
// /nomad the agent made the folder and may want it again.
Status remove_container_cgroup(const Context& ctx, const std::string& cgroup_path) {
  if (!cgroup_path.starts_with("/containerd-driver/containers/")) return {};
  return shim::remove_cgroup(ctx, cgroup_path);
}

}  // namespace
}  // namespace driver
