#include "driver/life/teardown.h"

#include <array>
#include <chrono>
#include <optional>

#include "base/fault.h"
#include "base/log.h"
#include "driver/files/stage.h"
#include "driver/net/networks.h"
#include "oci/overlay.h"
#include "shim/bundle.h"
#include "shim/cgroup.h"

namespace driver {

namespace {
using base::Context;
using base::Status;
using base::str;

/// What the undoing of one task needs.
struct Undoing {
  const Context& ctx;
  const TaskStore& store;
  const Record& record;
};

/// Something that a start makes. Its undoing may be repeated, and has nothing to do where nothing is there.
struct Made {
  const char* name;  ///< and "teardown.<name>" is the fault point behind its undoing
  const char* undoing;
  Status (*undo)(const Undoing& task);
  bool tells_the_rest = false;  ///< without it the rest could not be found again: undone when all the rest is
};

Status discard_record(const Undoing& task);
Status remove_bundle(const Undoing& task);
Status remove_container_cgroup(const Undoing& task);
Status unmount_rootfs(const Undoing& task);
Status give_back(const Undoing& task);
Status unstage(const Undoing& task);
Status end_shim(const Undoing& task);

// In the order of a start, undone from the last to the first. The shim comes up while the rest is prepared, but it and
// its container hold on to all of that, so they count as last.
constexpr std::array kMade = {
    Made{"record", "removing the task's folder", discard_record, true},
    Made{"bundle", "removing the bundle", remove_bundle, true},
    Made{"cgroup", "removing the cgroup", remove_container_cgroup},
    Made{"network", "giving back its network", give_back},
    Made{"rootfs", "unmounting the root file system", unmount_rootfs},
    Made{"stage", "unmounting the sources of its mounts", unstage},
    Made{"shim", "removing the shim and its container", end_shim},
};
/// A process that is on its way out holds a mount or a cgroup for a moment.
constexpr std::array kPauses = {std::chrono::milliseconds(50), std::chrono::milliseconds(250)};

Status undo_all(const Undoing& task);
Status undo_one(const Made& made, const Undoing& task);
}  // namespace

Status teardown(const Context& ctx, const TaskStore& store, const Record& record) {
  const Undoing task{ctx, store, record};
  Status undone = undo_all(task);
  // What went wrong the first time says nothing once all is gone.
  for (const auto pause : kPauses) {
    if (undone || !ctx.sleep(pause)) break;
    undone = undo_all(task);
  }
  return undone;
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

// Goes on after a failure: a mount that stays is no reason to leave the shim.
Status undo_all(const Undoing& task) {
  Status first;
  for (auto made = kMade.rbegin(); made != kMade.rend(); ++made) {
    if (!first && made->tells_the_rest) break;
    Status undone = undo_one(*made, task);
    if (undone) continue;
    LOG_WARN("teardown step failed",
             {{"task", task.record.id.text}, {"step", made->undoing}, {"error", undone.error().message}});
    if (first) first = std::move(undone).error().wrap(made->undoing);
  }
  return first;
}

Status undo_one(const Made& made, const Undoing& task) {
  TRY_VOID(made.undo(task));
  FAULT_POINT(str("teardown.", made.name).c_str());
  return {};
}

Status end_shim(const Undoing& task) {
  const Record& record = task.record;
  // After a reboot the recorded pid is somebody else's.
  const bool same_boot = record.boot_id == base::boot_id() && record.shim.pid > 0;
  const auto shim = same_boot ? std::optional(record.shim) : std::nullopt;
  return shim::delete_forced(task.ctx, record.shim_options(), record.names.shim(), shim);
}

Status unstage(const Undoing& task) {
  return unstage_mounts(task.record.names.mounts_dir());
}

Status unmount_rootfs(const Undoing& task) {
  return oci::unmount_all(task.record.names.rootfs_dir);
}

// The runtime removes the container's cgroup itself; this is for what a crash left. Only below our own parent: below
// /nomad the agent made the folder and may want it again.
Status remove_container_cgroup(const Undoing& task) {
  const std::string& path = task.record.names.cgroup_path;
  if (!path.starts_with("/containerd-driver/containers/")) return {};
  return shim::remove_cgroup(task.ctx, path);
}

// What cannot be given back now stays owed, in a file of its own, and is asked for again until it is: that is no reason
// to keep the task.
Status give_back(const Undoing& task) {
  const auto given = give_back_network(task.ctx, task.store.roots().data_dir, task.record.names.container_id);
  if (!given) {
    LOG_WARN("cannot give back a task's network, will try again",
             {{"task", task.record.id.text}, {"error", given.error().message}});
  }
  return {};
}

Status remove_bundle(const Undoing& task) {
  return shim::remove_bundle(task.record.names.shim());
}

Status discard_record(const Undoing& task) {
  return task.store.discard(task.record.names.container_id);
}

}  // namespace
}  // namespace driver
