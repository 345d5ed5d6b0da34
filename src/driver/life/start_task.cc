#include "driver/life/start_task.h"

#include <fcntl.h>

#include <thread>

#include "base/fault.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/thread.h"
#include "driver/files/hosts.h"
#include "driver/files/rootfs.h"
#include "driver/files/stage.h"
#include "driver/files/user.h"
#include "driver/files/volumes.h"
#include "driver/host/cpuset.h"
#include "driver/host/netns.h"
#include "driver/life/ensure_image.h"
#include "driver/life/plan.h"
#include "driver/life/runtime_error.h"
#include "driver/life/task_store.h"
#include "driver/net/networks.h"
#include "driver/spec/spec.h"
#include "oci/overlay.h"
#include "shim/bundle.h"
#include "shim/held_stdio.h"

namespace driver {

namespace {
using base::Context;
using base::Result;
using base::Status;
using base::str;

/// Says at debug level what each step of a start took.
class Steps {
 public:
  explicit Steps(const TaskId& id) : id_(id) {}
  void done(const char* step) {
    const auto now = base::Clock::now();
    const auto took = std::chrono::duration_cast<std::chrono::microseconds>(now - last_).count();
    LOG_DEBUG("start step done", {{"task", id_.text}, {"step", step}, {"us", took}});
    last_ = now;
  }

 private:
  const TaskId& id_;
  base::Deadline last_ = base::Clock::now();
};

void tell_surprises(const StartDeps& deps, const TaskSpec& spec, const StartPlan& plan);
Result<TaskSpec> join_own_network(const Context& ctx, const StartDeps& deps, const TaskSpec& spec,
                                  const TaskNames& names, NetworkPlan& network);
Status mount_rootfs(const oci::Image& image, const TaskNames& names);
Result<base::Json> container_config(const Context& ctx, const StartDeps& deps, const TaskSpec& spec,
                                    const oci::Image& image, const TaskNames& names, const StartPlan& plan);
std::string hostname_of(const TaskSpec& spec, const NetworkPlan& network, const TaskNames& names,
                        const HostFacts& host);
Result<EtcInput> etc_input(const TaskSpec& spec, const NetworkPlan& network, const std::string& hostname);
Result<std::shared_ptr<Task>> run_container(const Context& ctx, const StartDeps& deps, const TaskSpec& spec,
                                            Record& record, const std::shared_ptr<shim::Shim>& shim, Steps& steps);
Status start_in_cpuset(const Context& ctx, const StartDeps& deps, shim::Shim& shim, const TaskSpec& spec,
                       const Record& record);
}  // namespace

Result<std::shared_ptr<Task>> start_task(const Context& ctx, const StartDeps& deps, const TaskSpec& given,
                                         Record& record) {
  const TaskNames& names = record.names;
  Steps steps(given.id);

  // What the job itself says wrong is said before the image is fetched.
  TRY(StartPlan plan, plan_start(given, deps.options, deps.host));
  tell_surprises(deps, given, plan);

  TRY(const oci::Image image, ensure_image(ctx, deps, given, record));
  steps.done("image");
  FAULT_POINT("start.image");

  // Not for the image: the network has room for more.
  TRY(const Turns::Turn turn, deps.turns.wait_for_start(ctx));
  steps.done("turn");
  TRY_VOID(shim::prepare_bundle(names.shim()));
  FAULT_POINT("start.prepared");
  // The shim needs some 10 ms to come up: it does so while the rest is prepared.
  TRY(const auto shim, shim::Shim::spawn(deps.loop, record.shim_options(), names.shim()));
  record.shim = shim->process();
  FAULT_POINT("start.spawned");
  TRY_VOID(TaskStore::write(record));
  steps.done("shim spawned");
  FAULT_POINT("start.shim");

  TaskSpec spec = given;
  if (plan.network.kind == NetworkPlan::Kind::kOwn) {
    TRY(spec, join_own_network(ctx, deps, given, names, plan.network));
    steps.done("network");
  }
  TRY_VOID(mount_rootfs(image, names));
  steps.done("rootfs");
  FAULT_POINT("start.rootfs");
  TRY(const base::Json config, container_config(ctx, deps, spec, image, names, plan));
  TRY_VOID(shim::write_bundle(names.shim(), base::dump_json(config)));
  steps.done("bundle");
  FAULT_POINT("start.bundle");

  TRY_VOID(shim->ready(ctx));
  steps.done("shim ready");
  FAULT_POINT("start.ready");
  return run_container(ctx, deps, spec, record, shim, steps);
}

namespace {

// What is taken from a job without doing all that its author may expect.
void tell_surprises(const StartDeps& deps, const TaskSpec& spec, const StartPlan& plan) {
  const auto tell = [&](const char* subject, std::string text) {
    if (text.empty() || deps.news.hear(spec, subject, text) == News::Heard::kSame) return;
    deps.emit_event(spec, std::move(text), {});
  };
  tell("network", plan.network.note);
  std::string names;
  for (const std::string& name : spec.options.without_effect) names += str(names.empty() ? "" : ", ", name);
  if (!names.empty()) tell("options", str("These options have no effect with this driver: ", names));
}

// Gives back the task with what its network says of names, if nobody else has said anything.
Result<TaskSpec> join_own_network(const Context& ctx, const StartDeps& deps, const TaskSpec& spec,
                                  const TaskNames& names, NetworkPlan& network) {
  AttachRequest request{deps.options, names.container_id, names.netns, network.own, {{"IgnoreUnknown", "true"}}};
  if (!spec.alloc_id.empty()) request.args.emplace_back("NOMAD_ALLOC_ID", spec.alloc_id);
  TRY(const AttachedNetwork attached, attach_network(ctx, request));
  network.netns_path = names.netns;
  TaskSpec joined = spec;
  if (!attached.dns.servers.empty() && !task_dns(spec)) joined.dns = attached.dns;
  return joined;
}

Status mount_rootfs(const oci::Image& image, const TaskNames& names) {
  auto mounted = oci::mount_overlay({image.layer_dirs, names.upper_dir, names.work_dir, names.rootfs_dir});
  if (!mounted) return std::move(mounted).error().wrap("mounting the root file system");
  return {};
}

// config.json. Users, groups and links are looked up in the mounted root, whose content is the image author's.
Result<base::Json> container_config(const Context& ctx, const StartDeps& deps, const TaskSpec& spec,
                                    const oci::Image& image, const TaskNames& names, const StartPlan& plan) {
  TRY(const base::Fd rootfs, base::open_dir(names.rootfs_dir));
  TRY_VOID(check_rootfs(rootfs.get()));
  TRY_VOID(check_cwd(rootfs.get(), container_cwd(spec, image.config)));

  SpecInput input{.task = spec,
                  .image = image.config,
                  .host = deps.host,
                  .user = {},
                  .network = plan.network,
                  .rootfs = names.rootfs_dir,
                  .cgroups_path = names.cgroup_path,
                  .hostname = hostname_of(spec, plan.network, names, deps.host),
                  .etc = {},
                  .mounts = plan.mounts,
                  .pids_limit = plan.pids_limit,
                  .init = plan.init,
                  .allowed_caps = plan.allowed_caps,
                  .seccomp_profile = plan.seccomp_profile,
                  .devices = plan.devices,
                  .node_compute_mhz = deps.node.total_compute_mhz};
  TRY(const auto volumes, image_volume_targets(image.config.volumes, input.mounts));
  TRY(input.mounts, stage_mounts(std::move(input.mounts), names.mounts_dir()));
  FAULT_POINT("start.staged");
  TRY(input.mounts, add_image_volumes(ctx, rootfs.get(), volumes, names.volumes_dir(), std::move(input.mounts)));
  FAULT_POINT("start.volumes");
  TRY(input.user, resolve_user(rootfs.get(), container_user(spec, image.config)));
  TRY(const auto more_groups, resolve_groups(rootfs.get(), spec.options.group_add));
  input.user.additional_gids.insert(input.user.additional_gids.end(), more_groups.begin(), more_groups.end());
  TRY(const EtcInput etc, etc_input(spec, plan.network, input.hostname));
  TRY(input.etc, write_etc_files(names.etc_dir, spec, etc));
  FAULT_POINT("start.etc");
  return build_spec(input);
}

// The agent tells the allocation's address only to Docker's driver; everybody else has to look.
// A container of the command line is called as with other tools: as the host in the host's network, else by its id.
std::string hostname_of(const TaskSpec& spec, const NetworkPlan& network, const TaskNames& names,
                        const HostFacts& host) {
  constexpr std::size_t kHashBytes = 16;
  constexpr std::size_t kShownBytes = 12;
  if (spec.options.host_uts) return host.hostname;
  if (!spec.from_command_line || !spec.options.hostname.empty()) return default_hostname(spec);
  if (network.kind == NetworkPlan::Kind::kHost) return host.hostname;
  return names.container_id.substr(names.container_id.size() - kHashBytes, kShownBytes);
}

Result<EtcInput> etc_input(const TaskSpec& spec, const NetworkPlan& network, const std::string& hostname) {
  EtcInput input{hostname, HostNetwork::kNo, "", ""};
  if (network.kind == NetworkPlan::Kind::kHost) input.host_network = HostNetwork::kYes;
  if (network.kind == NetworkPlan::Kind::kJoin || network.kind == NetworkPlan::Kind::kOwn) {
    TRY(NetnsFacts seen, look_into_netns(network.netns_path));
    input.address = std::move(seen.address);
    input.gateway = std::move(seen.gateway);
  }
  if (spec.network && !spec.network->hosts_address.empty()) input.address = spec.network->hosts_address;
  return input;
}

// Create, ask for the exit, start: in this order, so that no exit can be missed.
Result<std::shared_ptr<Task>> run_container(const Context& ctx, const StartDeps& deps, const TaskSpec& spec,
                                            Record& record, const std::shared_ptr<shim::Shim>& shim, Steps& steps) {
  {
    TRY(const shim::HeldStdio stdio,
        shim::open_stdio({spec.stdin_path, spec.stdout_path, spec.stderr_path, spec.options.tty}));
    FAULT_POINT("start.stdio");
    auto init = shim->create(ctx, stdio.paths);
    if (!init) return translate_runtime_error(std::move(init).error());
    record.init = base::identify(*init).value_or(base::ProcessId{});
  }
  steps.done("create");
  FAULT_POINT("start.created");
  TRY_VOID(unstage_mounts(record.names.mounts_dir()));
  FAULT_POINT("start.unstaged");
  TRY_VOID(TaskStore::write(record));
  FAULT_POINT("start.noted");
  auto task = std::make_shared<Task>(deps.loop, deps.background, deps.events, record, shim);
  task->watch_exit();
  auto started = start_in_cpuset(ctx, deps, *shim, spec, record);
  if (!started) {
    task->expect_end();
    return translate_runtime_error(std::move(started).error());
  }
  steps.done("start");
  FAULT_POINT("start.started");
  TRY_VOID(task->mark_running());
  FAULT_POINT("start.running");
  return task;
}

// The kernel takes 5 ms to move a process, the runtime 15 to start it: both at once. What it forked before it was moved
// is moved afterwards.
Status start_in_cpuset(const Context& ctx, const StartDeps& deps, shim::Shim& shim, const TaskSpec& spec,
                       const Record& record) {
  // A job that names cores keeps the group that the runtime made with them.
  if (!spec.options.cpuset_cpus.empty() || !spec.options.cpuset_mems.empty()) return shim.start(ctx);
  const CgroupLocation container{.mode = deps.host.cgroup_mode, .path = record.names.cgroup_path};
  Status joined;
  // Without a thread to be had it is moved below only.
  auto mover = base::start_thread("cpuset", [&] { joined = join_nomad_cpuset(container, spec.resources); });
  TRY_VOID(shim.start(ctx));
  if (mover) mover->join();
  TRY_VOID(std::move(joined));
  return join_nomad_cpuset(container, spec.resources);
}

}  // namespace
}  // namespace driver
