#include <algorithm>

#include "base/text.h"
#include "driver/driver_impl.h"
#include "driver/host/stats.h"
#include "driver/life/stats_stream.h"
#include "driver/net/networks.h"
#include "driver/net/ports.h"
#include "shim/cgroup.h"

namespace driver {

using base::Result;
using base::str;
using base::Subscription;
using std::chrono::milliseconds;

namespace {

void say_if_paused(TaskStatus& status) {
  const auto cgroup = status.attributes.find("cgroup");
  if (cgroup == status.attributes.end()) return;
  const auto frozen = shim::is_frozen(cgroup->second);
  if (!frozen) {
    status.attributes["problem"] = str("whether it is paused is not known: ", frozen.error().message);
  } else if (*frozen) {
    status.attributes["paused"] = "true";
  }
}

constexpr milliseconds kStatsIntervalMin{100};  // of any caller, as for the option stats_interval

TaskStatus status_of(const Record& record) {
  TaskStatus status;
  status.id = record.id;
  status.name = record.name;
  status.state = record.phase == Phase::kExited    ? TaskState::kExited
                 : record.phase == Phase::kRunning ? TaskState::kRunning
                                                   : TaskState::kUnknown;
  status.started_at = record.started_at;
  status.completed_at = record.exited_at;
  status.exit = record.exit;
  status.attributes = {{"container_id", record.names.container_id},
                       {"image", record.image_reference},
                       {"image_digest", record.image_digest},
                       {"image_resolved_digest", record.image.resolved_digest},
                       {"image_platform", record.image.platform},
                       {"image_size", str(record.image.size_bytes)},
                       {"image_pulled_at", base::utc_text(record.image.pulled_at_unix)},
                       {"image_verified", record.image.verified},
                       {"runtime", record.runtime_binary},
                       {"cgroup", record.names.cgroup_path},
                       {"pid", str(record.init.pid)},
                       {"shim_pid", str(record.shim.pid)},
                       {"privileged", record.privileged ? "true" : "false"},
                       {"seccomp", record.seccomp ? "true" : "false"}};
  for (const auto& [name, value] : record.labels) status.attributes["label." + name] = value;
  return status;
}

void add_network(const AttachedNetwork& network, TaskStatus& status) {
  std::string ports;
  for (const PublishedPort& port : network.ports) {
    ports += str(ports.empty() ? "" : ", ", show_host_address(port), "->", port.container_port, "/", port.protocol);
  }
  status.attributes["network"] = network.network;
  status.attributes["ip_address"] = network.address;
  status.attributes["ip6_address"] = network.address_v6;
  status.attributes["gateway"] = network.gateway;
  status.attributes["ports"] = ports;
}

TaskStatus status_of_unreadable(const std::string& container_id, const base::Error& why) {
  TaskStatus status;
  status.id.text = container_id;
  status.state = TaskState::kUnreadable;
  status.attributes = {{"container_id", container_id}, {"problem", why.message}};
  return status;
}
}  // namespace

Result<TaskStatus> Driver::inspect(const TaskId& id) {
  const auto task = impl_->find_task(id);
  if (!task) return unknown_task(id);
  const Record record = task->record();
  TaskStatus status = status_of(record);
  if (status.state == TaskState::kRunning) say_if_paused(status);
  for (const AttachedNetwork& network : attached_networks(impl_->opts()->data_dir, record.names.container_id)) {
    add_network(network, status);
  }
  return status;
}

Result<std::vector<TaskStatus>> Driver::list() {
  std::vector<TaskStatus> all;
  const auto networks = attached_networks(impl_->opts()->data_dir, "");
  TRY(const auto folders, impl_->store().list());
  for (const TaskFolder& folder : folders) {
    if (const auto* unreadable = std::get_if<Unreadable>(&folder.task)) {
      all.push_back(status_of_unreadable(folder.container_id, unreadable->why));
    }
    const auto* record = std::get_if<Record>(&folder.task);
    if (record == nullptr) continue;
    TaskStatus status = status_of(*record);
    const bool alive = record->boot_id == base::boot_id() && !base::has_ended(record->init);
    if (status.state == TaskState::kRunning && !alive) status.state = TaskState::kExited;
    if (status.state == TaskState::kRunning) say_if_paused(status);
    for (const AttachedNetwork& network : networks) {
      if (network.container_id == record->names.container_id) add_network(network, status);
    }
    all.push_back(std::move(status));
  }
  return all;
}

Result<Subscription> Driver::stats(const TaskId& id, std::chrono::nanoseconds interval,
                                   std::function<void(const TaskStats&)> callback, std::function<void()> on_end) {
  const auto task = impl_->find_task(id);
  if (!task) return unknown_task(id);
  const auto asked = std::chrono::duration_cast<milliseconds>(interval);
  const milliseconds every = std::max(kStatsIntervalMin, impl_->opts()->stats_interval.value_or(asked));
  const CgroupLocation location{.mode = detect_cgroup_mode(), .path = task->record().names.cgroup_path};
  const auto stream = StatsStream::start(impl_->loop, impl_->sampling, location, impl_->node.lock()->core_mhz, every,
                                         std::move(callback), std::move(on_end));
  auto exit = std::make_shared<Subscription>(task->on_exit([stream](const ExitResult&) { stream->end(); }));
  return Subscription([stream, exit] {
    exit->reset();
    stream->end();
  });
}

Subscription Driver::events(std::function<void(const TaskEvent&)> callback) {
  return impl_->events.subscribe(std::move(callback));
}

}  // namespace driver
