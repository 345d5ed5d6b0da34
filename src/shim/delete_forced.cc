#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/process.h"
#include "shim/bundle.h"
#include "shim/cgroup.h"
#include "shim/program.h"
#include "shim/shim.h"

namespace shim {

namespace {

/// `delete` takes 20 to 150 ms; one that hangs must leave time for the next means.
constexpr std::chrono::seconds kDeleteProgramTimeout{10};
constexpr std::size_t kDeleteOutputBytesMax = 1u << 20;

base::Status kill_shim(const base::Context& ctx, const ShimNames& names,
                       const std::optional<base::ProcessId>& recorded_shim);
base::Status delete_container(const base::Context& ctx, const ShimOptions& options, const ShimNames& names);
base::Result<std::string> container_cgroup(const ShimNames& names);
bool exists(const std::string& path);
base::Result<bool> holds_mount(const std::string& dir);
void run_delete(const base::Context& ctx, const base::SpawnOptions& program, const ShimNames& names);

}  // namespace

base::Status delete_forced(const base::Context& ctx, const ShimOptions& options, const ShimNames& names,
                           const std::optional<base::ProcessId>& recorded_shim) {
  TRY_VOID(check_names(names));
  // The shim first: it must not run another runc while we clean up, and its death ends the one that it runs.
  base::Status undone = kill_shim(ctx, names, recorded_shim);
  if (auto deleted = delete_container(ctx, options, names); !deleted && undone) undone = std::move(deleted);
  ::unlink(names.socket_path.c_str());
  if (auto removed = remove_cgroup(ctx, names.cgroup_name); !removed && undone) undone = std::move(removed);
  remove_cgroup_if_empty(cgroup_parent(names.cgroup_name));
  TRY_VOID(std::move(undone));  // the bundle holds what the next attempt needs
  TRY(const bool mounted, holds_mount(names.bundle_dir));
  if (mounted) return {};
  return remove_bundle(names);
}

namespace {

base::Status kill_shim(const base::Context& ctx, const ShimNames& names,
                       const std::optional<base::ProcessId>& recorded_shim) {
  base::Fd pidfd;
  if (recorded_shim) {
    auto opened = base::open_pidfd(*recorded_shim);
    if (!opened && opened.error().code != base::Code::kNotFound) return std::move(opened).error();
    if (opened) pidfd = *std::move(opened);  // else it is gone
  }
  if (pidfd) {
    [[maybe_unused]] const auto sent = base::send_signal(pidfd.get(), SIGKILL);
  }
  auto killed = kill_cgroup(ctx, names.cgroup_name);
  if (!killed) return std::move(killed).error().wrap("killing the shim");
  if (!pidfd) return {};
  auto gone = base::wait_exited(ctx, pidfd.get());
  if (!gone) return std::move(gone).error().wrap(base::str("killing shim process ", recorded_shim->pid));
  base::reap(pidfd.get());
  return {};
}

// Kills first: what a `delete` reports is no proof, and it waits 100 ms for a process that it has to kill itself.
base::Status delete_container(const base::Context& ctx, const ShimOptions& options, const ShimNames& names) {
  TRY(const std::string cgroup, container_cgroup(names));
  if (!cgroup.empty()) {
    auto killed = kill_cgroup(ctx, cgroup);
    if (!killed) return std::move(killed).error().wrap(base::str("killing container ", names.container_id));
  }
  const std::string state_dir = runtime_state_dir(options, names);
  // The shim's `delete` reads the names of runtime and root from files that Create wrote.
  if (exists(state_dir) && exists(names.bundle_dir + "/runtime")) {
    run_delete(ctx, shim_delete_program(options, names), names);
  }
  if (exists(state_dir)) run_delete(ctx, runtime_delete_program(options, names), names);
  if (exists(state_dir)) TRY_VOID(base::remove_tree(state_dir));
  if (cgroup.empty()) return {};
  TRY_VOID(kill_cgroup(ctx, cgroup));
  return remove_cgroup(ctx, cgroup);
}

// "" when the bundle has none (yet): then nothing has been created either. One that cannot be read now may have a
// container.
base::Result<std::string> container_cgroup(const ShimNames& names) {
  auto text = base::read_file(names.bundle_dir + "/config.json", kConfigBytesMax);
  if (!text && text.error().code == base::Code::kNotFound) return std::string();
  if (!text) return std::move(text).error();
  const auto config = base::parse_json(*text, "config.json");
  if (!config || !config->is_object()) return std::string();
  const auto linux_part = base::get_object(*config, "linux");
  if (!linux_part || *linux_part == nullptr) return std::string();
  const auto path = base::get_string(**linux_part, "cgroupsPath");
  return path && *path ? **path : std::string();
}

bool exists(const std::string& path) {
  struct stat st {};
  return ::lstat(path.c_str(), &st) == 0;
}

// Whether something is mounted on an entry of it: the root, or what the caller put beside that.
base::Result<bool> holds_mount(const std::string& dir) {
  const auto names = base::list_dir(dir);
  if (!names && names.error().code == base::Code::kNotFound) return false;
  if (!names) return names.error();
  for (const std::string& name : *names) {
    TRY(const bool mounted, base::is_mount_point(base::str(dir, "/", name)));
    if (mounted) return true;
  }
  return false;
}

// Its outcome is looked at, not believed (both print errors on success, and succeed without having done anything).
void run_delete(const base::Context& ctx, const base::SpawnOptions& program, const ShimNames& names) {
  const auto ran = base::run(ctx.with_timeout(kDeleteProgramTimeout), program, "", kDeleteOutputBytesMax);
  if (ran && ran->exit.success()) return;
  LOG_DEBUG("deleting a container by program failed", {{"container", names.container_id},
                                                       {"program", program.argv[0]},
                                                       {"error", ran ? ran->stderr_text : ran.error().message}});
}

}  // namespace

}  // namespace shim
