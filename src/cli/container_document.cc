#include <unistd.h>

#include <array>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/documents.h"
#include "cli/verb.h"
#include "driver/life/record.h"
#include "driver/net/networks.h"
#include "oci/store.h"

namespace cli {

using base::Json;
using base::str;

namespace {

constexpr std::size_t kBundleBytesMax = 4u << 20;
constexpr std::int64_t kMiB = 1 << 20;
constexpr std::int64_t kStopSeconds = 10;

/// All that a document is made from; what is not known is empty.
struct Known {
  const Container& container;
  std::string container_id;
  std::optional<RunRequest> run;
  std::optional<oci::Image> image;
  std::string image_id;
  Json bundle;  // the container's OCI configuration
  std::vector<driver::AttachedNetwork> networks;
};

Known gather(const driver::PluginOptions& options, oci::Store& store, const Container& container);
Json state_document(const driver::TaskStatus& task, const std::string& state);
Json config_document(const Known& known);
Json host_config_document(const driver::PluginOptions& options, const Known& known);
Json mounts_document(const Known& known);
Json network_document(const driver::PluginOptions& options, const Known& known);
Json devices_document(const driver::TaskOptions& options);
Json ulimits_document(const driver::TaskOptions& options);
std::int64_t nano_cpus_of(const Known& known);
std::int64_t memory_swap_of(const std::string& given, std::int64_t memory);
std::int64_t to_seconds(const std::string& given);
std::vector<std::string> entrypoint_of(const Known& known);
std::vector<std::string> command_of(const Known& known);
std::vector<std::string> env_of(const Known& known);
std::map<std::string, std::string> labels_of(const Known& known);
std::string hostname_of(const Known& known);
bool is_readonly(const driver::MountOption& mount);
std::string join_words(const std::vector<std::string>& words);

}  // namespace

Json container_document(const driver::PluginOptions& options, oci::Store& store, const Container& container) {
  const Known known = gather(options, store, container);
  const driver::TaskStatus& task = container.task;
  std::vector<std::string> args = entrypoint_of(known);
  for (std::string& word : command_of(known)) args.push_back(std::move(word));
  const std::string path = args.empty() ? "" : args.front();
  if (!args.empty()) args.erase(args.begin());
  return {
      {"Id", long_id(known.container_id)},
      {"Name", name_of(container)},
      {"Created", time_text(created_at(container))},
      {"Path", path},
      {"Args", args},
      {"State", state_document(task, state_of(container))},
      {"Image", known.image_id},
      {"ImageName", attribute(task, "image")},
      {"ImageDigest", attribute(task, "image_digest")},
      {"OCIRuntime", attribute(task, "runtime")},
      {"CgroupPath", attribute(task, "cgroup")},
      {"LogPath", container.definition ? definition_dir(options.data_dir, known.container_id) + "/log" : std::string()},
      {"RestartCount", 0},
      {"Driver", "overlay"},
      {"Config", config_document(known)},
      {"HostConfig", host_config_document(options, known)},
      {"Mounts", mounts_document(known)},
      {"NetworkSettings", network_document(options, known)},
      {"Task", json_of_task(task)}};
}

std::string time_text(const std::optional<driver::WallTime>& time) {
  return time ? base::utc_text(std::chrono::system_clock::to_time_t(*time)) : "0001-01-01T00:00:00Z";
}

Json ports_document(const std::vector<driver::PublishedPort>& ports) {
  Json all = Json::object();
  for (const driver::PublishedPort& port : ports) {
    all[str(port.container_port, "/", port.protocol)].push_back(
        {{"HostIp", port.host_ip.empty() ? "0.0.0.0" : port.host_ip},
         {"HostPort", port.host_port == 0 ? std::string() : str(port.host_port)}});
  }
  return all;
}

std::string network_name(const driver::PluginOptions& options, const std::string& network) {
  return network == options.bridge_network.name ? "bridge" : network;
}

namespace {

Known gather(const driver::PluginOptions& options, oci::Store& store, const Container& container) {
  Known known{container, container_id_of(container.task), {}, {}, {}, Json::object(), {}};
  const std::string digest = attribute(container.task, "image_digest");
  known.image_id = digest;
  if (container.definition) {
    if (auto run = run_of(*container.definition)) known.run = *std::move(run);
  }
  if (const auto record = store.record(attribute(container.task, "image"))) {
    const bool is_the_one = digest.empty() || digest == record->manifest_digest.text();
    if (auto image = store.load(*record); image && is_the_one) {
      known.image = *std::move(image);
      known.image_id = known.image->config_digest->text();
    }
  }
  if (!driver::is_container_id(known.container_id)) return known;
  const auto names = driver::names_of(known.container_id, {options.data_dir, options.state_dir});
  if (const auto text = base::read_file(names.bundle_dir + "/config.json", kBundleBytesMax)) {
    if (auto bundle = base::parse_json(*text, "bundle"); bundle && bundle->is_object()) {
      known.bundle = *std::move(bundle);
    }
  }
  known.networks = driver::attached_networks(options.data_dir, known.container_id);
  return known;
}

Json state_document(const driver::TaskStatus& task, const std::string& state) {
  const bool paused = state == "paused";
  const bool running = state == "running" || paused;
  const std::string pid = running ? attribute(task, "pid", "0") : "0";
  return {{"Status", state},
          {"Running", running},
          {"Paused", paused},
          {"Restarting", false},
          {"Dead", false},
          {"OOMKilled", task.exit && task.exit->oom_killed},
          {"Pid", std::strtoll(pid.c_str(), nullptr, 10)},
          {"ExitCode", task.exit ? task.exit->exit_code : 0},
          {"Error", task.exit ? task.exit->error : attribute(task, "problem")},
          {"StartedAt", time_text(task.started_at)},
          {"FinishedAt", time_text(running ? std::nullopt : task.completed_at)}};
}

Json config_document(const Known& known) {
  const driver::TaskSpec spec = known.run ? known.run->spec : driver::TaskSpec();
  const oci::ImageConfig image = known.image ? known.image->config : oci::ImageConfig();
  const auto first = [](const std::string& a, const std::string& b, const std::string& c = "") {
    return !a.empty() ? a : !b.empty() ? b : c;
  };
  const auto process = base::get_object(known.bundle, "process");
  const Json none = Json::object();
  const Json& ran = process && *process != nullptr ? **process : none;
  const auto cwd = base::get_string(ran, "cwd");
  Json volumes = Json::object();
  for (const std::string& volume : image.volumes) volumes[volume] = Json::object();
  const bool interactive = known.run && known.run->flags.interactive;
  const bool attached = known.run && !known.run->flags.detach;
  return {{"Hostname", hostname_of(known)},
          {"User", first(spec.user, image.user)},
          {"AttachStdin", interactive},
          {"AttachStdout", attached},
          {"AttachStderr", attached},
          {"Tty", spec.options.tty},
          {"OpenStdin", interactive},
          {"StdinOnce", interactive && attached},
          {"Env", env_of(known)},
          {"Cmd", command_of(known)},
          {"Entrypoint", entrypoint_of(known)},
          {"Image", attribute(known.container.task, "image")},
          {"Volumes", std::move(volumes)},
          {"WorkingDir", first(spec.options.cwd, cwd && *cwd ? **cwd : "", first(image.working_dir, "/"))},
          {"Labels", labels_of(known)},
          {"StopSignal", first(spec.stop_signal, image.stop_signal, "SIGTERM")},
          {"StopTimeout", known.run ? to_seconds(known.run->flags.stop_timeout) : kStopSeconds}};
}

Json host_config_document(const driver::PluginOptions& options, const Known& known) {
  const driver::TaskSpec spec = known.run ? known.run->spec : driver::TaskSpec();
  const driver::TaskOptions& asked = spec.options;
  Json binds = Json::array();
  Json tmpfs = Json::object();
  for (const driver::MountOption& mount : asked.mounts) {
    if (mount.type == "tmpfs") {
      tmpfs[mount.target] = join_words(mount.options);
    } else {
      binds.push_back(str(mount.source, ":", mount.target, ":", is_readonly(mount) ? "ro" : "rw"));
    }
  }
  const std::string net = known.run ? known.run->flags.network.net : "";
  const std::string own = spec.own_network ? spec.own_network->name : "none";
  const std::int64_t memory = spec.resources.memory_max_bytes > 0 ? spec.resources.memory_max_bytes
                              : asked.memory_hard_limit > 0       ? asked.memory_hard_limit * kMiB
                                                                  : spec.resources.memory_bytes;
  const bool privileged = known.run ? asked.privileged : attribute(known.container.task, "privileged") == "true";
  return {{"Binds", std::move(binds)},
          {"Tmpfs", std::move(tmpfs)},
          {"NetworkMode", net.empty() ? own : net},
          {"PortBindings",
           ports_document(spec.own_network ? spec.own_network->ports : std::vector<driver::PublishedPort>())},
          {"Memory", memory},
          {"MemoryReservation", asked.memory_reservation},
          {"MemorySwap", memory_swap_of(asked.memory_swap, memory)},
          {"CpuShares", spec.resources.cpu_shares},
          {"NanoCpus", nano_cpus_of(known)},
          {"CpusetCpus", asked.cpuset_cpus},
          {"PidsLimit", asked.pids_limit != 0 ? asked.pids_limit : options.pids_limit},
          {"OomScoreAdj", asked.oom_score_adj},
          {"Privileged", privileged},
          {"CapAdd", asked.cap_add},
          {"CapDrop", asked.cap_drop},
          {"SecurityOpt", asked.security_opt},
          {"ReadonlyRootfs", asked.readonly_rootfs},
          {"ShmSize", asked.shm_size == 0 ? driver::kShmBytes : asked.shm_size},
          {"Init", asked.init},
          {"PidMode", known.run && !known.run->flags.pid.empty() ? known.run->flags.pid
                      : asked.host_pid                           ? "host"
                                                                 : "private"},
          {"IpcMode", asked.host_ipc ? "host" : "private"},
          {"UTSMode", asked.host_uts ? "host" : "private"},
          {"Devices", devices_document(asked)},
          {"Ulimits", ulimits_document(asked)},
          {"LogConfig", {{"Type", known.run && known.run->flags.log_driver == "none" ? "none" : "k8s-file"}}},
          {"Sysctls", asked.sysctl},
          {"Dns", asked.dns_servers},
          {"DnsSearch", asked.dns_search_domains},
          {"DnsOptions", asked.dns_options},
          {"ExtraHosts", asked.extra_hosts},
          {"GroupAdd", asked.group_add},
          {"RestartPolicy", {{"Name", "no"}, {"MaximumRetryCount", 0}}},
          {"AutoRemove", known.run && known.run->flags.remove}};
}

Json devices_document(const driver::TaskOptions& options) {
  Json all = Json::array();
  for (const driver::DeviceOption& device : options.devices) {
    all.push_back({{"PathOnHost", device.host_path},
                   {"PathInContainer", device.container_path.empty() ? device.host_path : device.container_path},
                   {"CgroupPermissions", device.permissions}});
  }
  return all;
}

// -1 is no limit.
Json ulimits_document(const driver::TaskOptions& options) {
  const auto limit = [](const std::optional<std::uint64_t>& value) { return value ? Json(*value) : Json(-1); };
  Json all = Json::array();
  for (const auto& [name, ulimit] : options.ulimit) {
    all.push_back({{"Name", name}, {"Soft", limit(ulimit.soft)}, {"Hard", limit(ulimit.hard)}});
  }
  return all;
}

std::int64_t nano_cpus_of(const Known& known) {
  constexpr double kNano = 1e9;
  if (!known.run) return 0;
  return static_cast<std::int64_t>(std::strtod(known.run->flags.cpus.c_str(), nullptr) * kNano);
}

// As Docker has it, memory and swap together.
std::int64_t memory_swap_of(const std::string& given, std::int64_t memory) {
  return given.empty() ? memory : std::strtoll(given.c_str(), nullptr, 10);
}

std::int64_t to_seconds(const std::string& given) {
  return given.empty() ? kStopSeconds : std::strtoll(given.c_str(), nullptr, 10);
}

Json mounts_document(const Known& known) {
  Json all = Json::array();
  if (!known.run) return all;
  for (const driver::MountOption& mount : known.run->spec.options.mounts) {
    const bool readonly = is_readonly(mount);
    all.push_back({{"Type", mount.type},
                   {"Source", mount.source},
                   {"Destination", mount.target},
                   {"Mode", readonly ? "ro" : ""},
                   {"Options", mount.options},
                   {"RW", !readonly},
                   {"Propagation", mount.type == "tmpfs" ? "" : "rprivate"}});
  }
  return all;
}

Json network_document(const driver::PluginOptions& options, const Known& known) {
  Json networks = Json::object();
  Json out = {
      {"IPAddress", ""}, {"GlobalIPv6Address", ""}, {"Gateway", ""}, {"MacAddress", ""}, {"Ports", Json::object()}};
  const std::string mac = known.run && known.run->spec.own_network ? known.run->spec.own_network->mac : "";
  for (const driver::AttachedNetwork& network : known.networks) {
    Json one = {{"NetworkID", network.network},
                {"IPAddress", network.address},
                {"GlobalIPv6Address", network.address_v6},
                {"Gateway", network.gateway},
                {"MacAddress", mac}};
    for (const char* key : {"IPAddress", "GlobalIPv6Address", "Gateway", "MacAddress"}) {
      if (out[key] == "") out[key] = one[key];
    }
    out["Ports"].update(ports_document(network.ports));
    networks[network_name(options, network.network)] = std::move(one);
  }
  out["Networks"] = std::move(networks);
  return out;
}

std::vector<std::string> entrypoint_of(const Known& known) {
  if (!known.run) return {};
  const auto& given = known.run->spec.options.entrypoint;
  if (given) return *given;
  return known.image ? known.image->config.entrypoint : std::vector<std::string>();
}

std::vector<std::string> command_of(const Known& known) {
  std::vector<std::string> words;
  if (!known.run) {
    const auto process = base::get_object(known.bundle, "process");
    if (!process || *process == nullptr) return words;
    if (auto args = base::get_string_list(**process, "args"); args && *args) words = **std::move(args);
    return words;
  }
  const driver::TaskOptions& options = known.run->spec.options;
  if (!options.command.empty() || !options.args.empty()) {
    if (!options.command.empty()) words.push_back(options.command);
    words.insert(words.end(), options.args.begin(), options.args.end());
  } else if (known.image && !options.entrypoint) {
    words = known.image->config.cmd;
  }
  return words;
}

// The image's, with what was given instead or besides.
std::vector<std::string> env_of(const Known& known) {
  if (!known.run) {
    const auto process = base::get_object(known.bundle, "process");
    if (!process || *process == nullptr) return {};
    auto env = base::get_string_list(**process, "env");
    return env && *env ? **std::move(env) : std::vector<std::string>();
  }
  std::map<std::string, std::string> given = known.run->spec.env;
  std::vector<std::string> all;
  for (const std::string& entry : known.image ? known.image->config.env : std::vector<std::string>()) {
    const std::string key = entry.substr(0, entry.find('='));
    const auto it = given.find(key);
    all.push_back(it == given.end() ? entry : str(key, "=", it->second));
    if (it != given.end()) given.erase(it);
  }
  for (const auto& [key, value] : given) all.push_back(str(key, "=", value));
  return all;
}

std::map<std::string, std::string> labels_of(const Known& known) {
  constexpr std::string_view kPrefix = "label.";
  std::map<std::string, std::string> labels;
  if (known.run) labels = known.run->spec.options.labels;
  for (const auto& [key, value] : known.container.task.attributes) {
    if (key.starts_with(kPrefix)) labels[key.substr(kPrefix.size())] = value;
  }
  if (known.image) labels.insert(known.image->config.labels.begin(), known.image->config.labels.end());
  return labels;
}

std::string hostname_of(const Known& known) {
  if (known.run && !known.run->spec.options.hostname.empty()) return known.run->spec.options.hostname;
  const auto set = base::get_string(known.bundle, "hostname");
  if (set && *set) return **set;
  std::array<char, 256> own{};
  const bool hosts = known.run && known.run->spec.options.host_network;
  if (hosts && ::gethostname(own.data(), own.size() - 1) == 0) return own.data();
  return "";
}

bool is_readonly(const driver::MountOption& mount) {
  for (const std::string& option : mount.options) {
    if (option == "ro" || option == "readonly") return true;
  }
  return false;
}

std::string join_words(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += str(out.empty() ? "" : ",", word);
  return out;
}

}  // namespace
}  // namespace cli
