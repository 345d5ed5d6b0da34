#include "plugin/convert.h"

#include <limits>

#include "base/json.h"
#include "base/text.h"
#include "driver/options/config.h"
#include "plugin/errors.h"
#include "plugin/msgpack.h"
#include "plugin/proto/base.pb.h"
#include "plugin/proto/driver.pb.h"
#include "plugin/proto/well_known.pb.h"

namespace plugin {

namespace {

constexpr std::int64_t kGoZeroTimeSeconds = -62'135'596'800;
constexpr std::int64_t kBytesPerMb = 1 << 20;

base::Status check_sizes(const nomad::driver::TaskConfig& config);
base::Result<driver::Resources> to_resources(const nomad::driver::Resources& resources);
base::Result<std::int64_t> mb_to_bytes(std::int64_t mb, std::string_view field);
base::Result<driver::NetworkIsolation> to_network(const nomad::driver::NetworkIsolationSpec& spec);
driver::Dns to_dns(const nomad::driver::DNSConfig& dns);
std::vector<driver::PortMapping> to_ports(const nomad::driver::Resources& resources);
template <typename Map>
std::map<std::string, std::string> to_map(const Map& map);
template <typename List>
std::vector<std::string> to_list(const List& list);

}  // namespace

base::Result<driver::TaskSpec> to_task_spec(const nomad::driver::TaskConfig& config) {
  if (config.id().empty()) return base::Error::invalid_argument("the task configuration has no id");
  TRY_VOID(check_sizes(config));
  driver::TaskSpec spec;
  spec.id = {config.id()};
  spec.name = config.name();
  spec.alloc_id = config.alloc_id();
  spec.job_name = config.job_name();
  spec.job_id = config.job_id();
  spec.group_name = config.task_group_name();
  spec.namespace_name = config.namespace_();
  spec.node_name = config.node_name();
  spec.node_id = config.node_id();
  TRY(const base::Json options, decode_config(config.msgpack_driver_config(), "task config"));
  TRY(spec.options, driver::decode_task_options(options));
  spec.env = to_map(config.env());
  spec.user = config.user();
  spec.alloc_dir = config.alloc_dir();
  spec.stdout_path = config.stdout_path();
  spec.stderr_path = config.stderr_path();
  TRY(spec.resources, to_resources(config.resources()));
  for (const auto& mount : config.mounts()) {
    spec.mounts.push_back({mount.task_path(), mount.host_path(), mount.readonly(), mount.propagation_mode()});
  }
  for (const auto& device : config.devices()) {
    spec.devices.push_back({device.task_path(), device.host_path(), device.cgroup_permissions()});
  }
  if (config.has_network_isolation_spec()) {
    TRY(spec.network, to_network(config.network_isolation_spec()));
  }
  if (config.has_dns()) spec.dns = to_dns(config.dns());
  spec.ports = to_ports(config.resources());
  return spec;
}

driver::NodeInfo to_node_info(const nomad::base::ClientTopology& topology) {
  double total = 0;
  for (const auto& core : topology.cores()) {
    const auto speed = core.base_speed() > 0  ? core.base_speed()
                       : core.max_speed() > 0 ? core.max_speed()
                                              : core.guess_speed();
    total += static_cast<double>(speed);
  }
  if (topology.override_total_compute() > 0) total = static_cast<double>(topology.override_total_compute());
  driver::NodeInfo node;
  node.total_compute_mhz = total;
  if (topology.cores_size() > 0) node.core_mhz = total / topology.cores_size();
  return node;
}

base::Result<std::chrono::nanoseconds> to_duration(const nomad::wkt::Duration& duration) {
  constexpr std::int64_t kSecondsMax = std::int64_t{100} * 365 * 24 * 3600;
  constexpr std::int32_t kNanosMax = 999'999'999;
  const bool seconds_fit = duration.seconds() >= 0 && duration.seconds() <= kSecondsMax;
  if (!seconds_fit || duration.nanos() < 0 || duration.nanos() > kNanosMax) {
    return base::Error::invalid_argument(base::str("duration of ", duration.seconds(), " s and ", duration.nanos(),
                                                   " ns: it must lie between 0 and 100 years"));
  }
  return std::chrono::seconds(duration.seconds()) + std::chrono::nanoseconds(duration.nanos());
}

void fill(const std::optional<driver::WallTime>& time, nomad::wkt::Timestamp* out) {
  if (!time) return out->set_seconds(kGoZeroTimeSeconds);
  const auto since_epoch = time->time_since_epoch();
  const auto seconds = std::chrono::floor<std::chrono::seconds>(since_epoch);
  out->set_seconds(seconds.count());
  out->set_nanos(static_cast<std::int32_t>(std::chrono::nanoseconds(since_epoch - seconds).count()));
}

void fill(const driver::ExitResult& exit, nomad::driver::ExitResult* out) {
  out->set_exit_code(exit.exit_code);
  out->set_signal(exit.signal);
  out->set_oom_killed(exit.oom_killed);
}

void fill(const driver::Fingerprint& fingerprint, nomad::driver::FingerprintResponse* out) {
  for (const auto& [key, value] : fingerprint.attributes) {
    (*out->mutable_attributes())[base::to_utf8(key)].set_string_val(base::to_utf8(value));
  }
  switch (fingerprint.health) {
    case driver::Health::kUndetected:
      out->set_health(nomad::driver::FingerprintResponse::UNDETECTED);
      break;
    case driver::Health::kUnhealthy:
      out->set_health(nomad::driver::FingerprintResponse::UNHEALTHY);
      break;
    case driver::Health::kHealthy:
      out->set_health(nomad::driver::FingerprintResponse::HEALTHY);
      break;
  }
  out->set_health_description(base::printable(fingerprint.description));
}

void fill(const driver::TaskStatus& status, nomad::driver::InspectTaskResponse* out) {
  auto* task = out->mutable_task();
  task->set_id(status.id.text);
  task->set_name(status.name);
  switch (status.state) {
    case driver::TaskState::kUnreadable:
    case driver::TaskState::kUnknown:
      task->set_state(nomad::driver::UNKNOWN);
      break;
    case driver::TaskState::kRunning:
      task->set_state(nomad::driver::RUNNING);
      break;
    case driver::TaskState::kExited:
      task->set_state(nomad::driver::EXITED);
      break;
  }
  fill(status.started_at, task->mutable_started_at());
  fill(status.completed_at, task->mutable_completed_at());
  fill(status.exit.value_or(driver::ExitResult{}), task->mutable_result());
  auto* attributes = out->mutable_driver()->mutable_attributes();
  for (const auto& [key, value] : status.attributes) (*attributes)[base::to_utf8(key)] = base::to_utf8(value);
}

void fill(const driver::TaskId& id, const driver::TaskStats& stats, nomad::driver::TaskStats* out) {
  using Cpu = nomad::driver::CPUUsage;
  using Memory = nomad::driver::MemoryUsage;
  out->set_id(id.text);
  fill(stats.time, out->mutable_timestamp());
  auto* cpu = out->mutable_agg_resource_usage()->mutable_cpu();
  cpu->set_system_mode(stats.cpu.system_percent);
  cpu->set_user_mode(stats.cpu.user_percent);
  cpu->set_total_ticks(stats.cpu.total_ticks);  // read by the agent though never listed as measured
  cpu->set_throttled_periods(stats.cpu.throttled_periods);
  cpu->set_throttled_time(stats.cpu.throttled_ns);
  cpu->set_percent(stats.cpu.percent);
  for (const auto field :
       {Cpu::SYSTEM_MODE, Cpu::USER_MODE, Cpu::THROTTLED_PERIODS, Cpu::THROTTLED_TIME, Cpu::PERCENT}) {
    cpu->add_measured_fields(field);
  }
  auto* memory = out->mutable_agg_resource_usage()->mutable_memory();
  memory->set_rss(stats.memory.rss);
  memory->set_cache(stats.memory.cache);
  memory->set_swap(stats.memory.swap);
  memory->set_usage(stats.memory.usage);
  for (const auto field : {Memory::RSS, Memory::CACHE, Memory::SWAP, Memory::USAGE}) memory->add_measured_fields(field);
  if (stats.memory.has_max_usage) {
    memory->set_max_usage(stats.memory.max_usage);
    memory->add_measured_fields(Memory::MAX_USAGE);
  }
  if (stats.memory.has_kernel_usage) {
    memory->set_kernel_usage(stats.memory.kernel_usage);
    memory->set_kernel_max_usage(stats.memory.kernel_max_usage);
    memory->add_measured_fields(Memory::KERNEL_USAGE);
    memory->add_measured_fields(Memory::KERNEL_MAX_USAGE);
  }
}

void fill(const driver::TaskEvent& event, nomad::driver::DriverTaskEvent* out) {
  out->set_task_id(event.id.text);
  out->set_alloc_id(event.alloc_id);
  out->set_task_name(event.task_name);
  fill(event.time, out->mutable_timestamp());
  // Nomad's command line shows both as they are, and some of it others wrote: registries, runtimes, verifiers.
  out->set_message(base::printable(event.message));
  auto* annotations = out->mutable_annotations();
  for (const auto& [key, value] : event.annotations) (*annotations)[base::to_utf8(key)] = base::printable(value);
}

nomad::driver::DriverCapabilities capabilities(driver::NetworksBy networks) {
  using Network = nomad::driver::NetworkIsolationSpec;
  nomad::driver::DriverCapabilities out;
  out.set_send_signals(true);
  out.set_exec(true);
  out.set_fs_isolation(nomad::driver::DriverCapabilities::IMAGE);
  for (const auto mode : {Network::HOST, Network::GROUP, Network::TASK}) out.add_network_isolation_modes(mode);
  out.set_must_create_network(networks == driver::NetworksBy::kDriver);
  out.set_mount_configs(nomad::driver::DriverCapabilities::ANY_MOUNTS);
  return out;
}

// An agent tells a group's host name and address to all its tasks, of whatever driver, if this label says the name.
void fill(const driver::GroupNetwork& network, const std::string& hostname,
          nomad::driver::CreateNetworkResponse* out) {
  constexpr char kHostnameLabel[] = "docker_sandbox_hostname";
  auto* spec = out->mutable_isolation_spec();
  spec->set_mode(nomad::driver::NetworkIsolationSpec::GROUP);
  spec->set_path(network.path);
  if (!hostname.empty()) (*spec->mutable_labels())[kHostnameLabel] = hostname;
  out->set_created(network.created);
}

namespace {

base::Status check_sizes(const nomad::driver::TaskConfig& config) {
  const auto check = [](int count, int limit, std::string_view what) -> base::Status {
    if (count <= limit) return {};
    return base::Error::resource_exhausted(
        base::str("the task has ", count, " ", what, ", more than the limit of ", limit));
  };
  TRY_VOID(check(static_cast<int>(config.env().size()), kEnvVariablesMax, "environment variables"));
  TRY_VOID(check(config.mounts_size(), kListEntriesMax, "mounts"));
  TRY_VOID(check(config.devices_size(), kListEntriesMax, "devices"));
  TRY_VOID(check(config.resources().ports_size(), kListEntriesMax, "ports"));
  const auto& dns = config.dns();
  return check(dns.servers_size() + dns.searches_size() + dns.options_size(), kListEntriesMax, "dns entries");
}

base::Result<driver::Resources> to_resources(const nomad::driver::Resources& resources) {
  const auto& allocated = resources.allocated_resources();
  const auto& linux_resources = resources.linux_resources();
  driver::Resources out;
  out.cpu_shares = allocated.has_cpu() ? allocated.cpu().cpu_shares() : linux_resources.cpu_shares();
  if (out.cpu_shares < 0) {
    return base::Error::invalid_argument(base::str("cpu_shares ", out.cpu_shares, " must not be negative"));
  }
  TRY(out.memory_bytes, mb_to_bytes(allocated.memory().memory_mb(), "memory_mb"));
  if (allocated.memory().memory_max_mb() == -1) {
    out.memory_max_bytes = -1;
  } else {
    TRY(out.memory_max_bytes, mb_to_bytes(allocated.memory().memory_max_mb(), "memory_max_mb"));
  }
  // linux_resources repeats the larger of the two as memory_limit_bytes; only a harness sends it alone.
  if (!allocated.has_memory()) out.memory_bytes = std::max<std::int64_t>(0, linux_resources.memory_limit_bytes());
  out.node_cpu_share = linux_resources.percent_ticks();
  out.cpuset_cpus = linux_resources.cpuset_cpus();
  out.cpuset_cgroup = linux_resources.cpuset_cgroup();
  return out;
}

base::Result<std::int64_t> mb_to_bytes(std::int64_t mb, std::string_view field) {
  if (mb >= 0 && mb <= std::numeric_limits<std::int64_t>::max() / kBytesPerMb) return mb * kBytesPerMb;
  return base::Error::invalid_argument(base::str(field, " ", mb, " is not a size"));
}

base::Result<driver::NetworkIsolation> to_network(const nomad::driver::NetworkIsolationSpec& spec) {
  using Spec = nomad::driver::NetworkIsolationSpec;
  driver::NetworkIsolation out;
  switch (spec.mode()) {
    case Spec::HOST:
      out.mode = driver::NetworkMode::kHost;
      break;
    case Spec::GROUP:
      out.mode = driver::NetworkMode::kGroup;
      break;
    case Spec::TASK:
      out.mode = driver::NetworkMode::kTask;
      break;
    case Spec::NONE:
      out.mode = driver::NetworkMode::kNone;
      break;
    default:
      return base::Error::invalid_argument(
          base::str("network isolation mode ", static_cast<int>(spec.mode()), " is not known"));
  }
  out.path = spec.path();
  out.labels = to_map(spec.labels());
  out.hosts_hostname = spec.hosts_config().hostname();
  out.hosts_address = spec.hosts_config().address();
  return out;
}

driver::Dns to_dns(const nomad::driver::DNSConfig& dns) {
  return {to_list(dns.servers()), to_list(dns.searches()), to_list(dns.options())};
}

std::vector<driver::PortMapping> to_ports(const nomad::driver::Resources& resources) {
  std::vector<driver::PortMapping> out;
  for (const auto& port : resources.ports()) out.push_back({port.label(), port.value(), port.to(), port.host_ip()});
  return out;
}

template <typename Map>
std::map<std::string, std::string> to_map(const Map& map) {
  return {map.begin(), map.end()};
}

template <typename List>
std::vector<std::string> to_list(const List& list) {
  return {list.begin(), list.end()};
}

}  // namespace

}  // namespace plugin
