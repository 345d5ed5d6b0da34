#include "cli/network.h"

#include <fcntl.h>
#include <unistd.h>

#include <set>

#include "base/file.h"
#include "base/json.h"
#include "cli/ports.h"
#include "cli/verb.h"
#include "driver/files/hosts.h"
#include "driver/net/networks.h"
#include "driver/net/ports.h"

namespace cli {

using base::Error;
using base::Json;
using base::Result;
using base::Status;
using base::str;

namespace {

constexpr std::string_view kContainer = "container:";
constexpr std::string_view kNamed = "cni/";

Result<base::Fd> namespace_of(driver::Driver& driver, const char* flag, const std::string& given, const char* kind);
Result<std::string> pid_of_running(driver::Driver& driver, const char* flag, const std::string& given);
std::string path_of(const base::Fd& fd);
Status check_address(const char* flag, const std::string& address, bool v6);
int list_networks(Call& call, const std::string& output, bool names_only);
int inspect_networks(Call& call, const std::vector<std::string>& wanted);

}  // namespace

void NetworkFlags::declare(Flags& flags) {
  const char* const kNet = "bridge, host, none, cni/NAME or container:ID (default none; with -p bridge)";
  flags.value("net", 0, "NETWORK", kNet, net);
  flags.value("network", 0, "NETWORK", "the same as --net", net);
  flags.list("publish", 'p', "[IP:][HOST:]PORT[/PROTO]", "let a port of the host lead into the container", publish);
  flags.value("ip", 0, "ADDRESS", "IPv4 address in the network", ip);
  flags.value("ip6", 0, "ADDRESS", "IPv6 address in the network", ip6);
  flags.value("mac-address", 0, "MAC", "hardware address in the network", mac);
  flags.list("add-host", 0, "NAME:ADDRESS", "add a line to /etc/hosts; the address may be host-gateway", add_host);
  flags.list("dns", 0, "ADDRESS", "ask this name server", dns);
  flags.list("dns-search", 0, "DOMAIN", "complete short names with this domain", dns_search);
  flags.list("dns-option", 0, "OPTION", "an option of resolv.conf", dns_option);
}

Status apply_network(const NetworkFlags& flags, Json& options, driver::TaskSpec& spec) {
  TRY(auto ports, parse_ports(flags.publish));
  const std::string net = !flags.net.empty() ? flags.net : ports.empty() ? "none" : "bridge";
  const bool own = net == "bridge" || net.starts_with(kNamed);
  if (!own && net != "host" && net != "none" && !net.starts_with(kContainer)) {
    return Error::invalid_argument(
        str("--net ", net, " is not known: use bridge, host, none, cni/NAME or container:ID"));
  }
  if (!own && !ports.empty()) {
    return Error::invalid_argument(
        str("--publish does nothing with --net ", net, ": leave it out, or use --net bridge"));
  }
  TRY_VOID(check_address("--ip", flags.ip, false));
  TRY_VOID(check_address("--ip6", flags.ip6, true));
  driver::OwnNetwork network{net, std::move(ports), {}, flags.mac};
  for (const std::string* address : {&flags.ip, &flags.ip6}) {
    if (!address->empty()) network.ips.push_back(*address);
  }
  if (!own && (!network.ips.empty() || !network.mac.empty())) {
    return Error::invalid_argument(
        str("an address cannot be chosen with --net ", net, ": leave --ip, --ip6 and --mac-address out"));
  }
  options["host_network"] = net == "host";
  options["extra_hosts"] = flags.add_host;
  options["dns_servers"] = flags.dns;
  options["dns_search_domains"] = flags.dns_search;
  options["dns_options"] = flags.dns_option;
  if (own) spec.own_network = std::move(network);
  return {};
}

Result<std::vector<base::Fd>> join_containers(driver::Driver& driver, const NetworkFlags& flags, const std::string& pid,
                                              driver::TaskSpec& spec) {
  std::vector<base::Fd> held;
  if (flags.net.starts_with(kContainer)) {
    driver::NetworkIsolation network;
    network.mode = driver::NetworkMode::kTask;
    TRY(held.emplace_back(), namespace_of(driver, "--net", flags.net, "net"));
    network.path = path_of(held.back());
    spec.network = std::move(network);
  }
  if (pid.starts_with(kContainer)) {
    TRY(held.emplace_back(), namespace_of(driver, "--pid", pid, "pid"));
    spec.pid_namespace = path_of(held.back());
  }
  return held;
}

int network_command(const Verb& self, Call& call) {
  Flags flags;
  std::string output;
  bool quiet = false;
  flags.value("output", 'o', "json", "print JSON", output);
  flags.value("format", 0, "json", "the same as --output", output);
  flags.toggle("quiet", 'q', "print names only", quiet);
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (auto valid = check_output_format(output); !valid) return misuse(self, call.io, valid.error());
  if (args->size() == 1 && args->front() == "ls") return list_networks(call, output, quiet);
  if (args->size() > 1 && args->front() == "inspect") {
    return inspect_networks(call, {args->begin() + 1, args->end()});
  }
  return misuse(self, call.io, Error::invalid_argument("write network ls, or network inspect NAME…"));
}

int port_command(const Verb& self, Call& call) {
  Flags flags;
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (args->empty() || args->size() > 2) {
    return misuse(self, call.io, Error::invalid_argument("name one container, and one port of it or none"));
  }
  const auto found_task = find_container(call.globals, args->front());
  if (!found_task) return fail(call.io, found_task.error(), kExitRunFailure);
  std::string wanted = args->size() == 2 ? args->back() : "";
  if (!wanted.empty() && wanted.find('/') == std::string::npos) wanted += "/tcp";
  bool found = false;
  for (const auto& network :
       driver::attached_networks(call.globals.options().data_dir, container_id_of(found_task->task))) {
    for (const driver::PublishedPort& port : network.ports) {
      const std::string inside = str(port.container_port, "/", port.protocol);
      if (!wanted.empty() && inside != wanted) continue;
      const std::string outside = driver::show_host_address(port);
      print_line(call.io, wanted.empty() ? str(inside, " -> ", outside) : outside);
      found = true;
    }
  }
  if (found || wanted.empty()) return kExitOk;
  return fail(call.io, Error::not_found(str("port ", wanted, " of ", args->front(), " is not published")),
              kExitRunFailure);
}

namespace {

// `given` is what the flag was given: "container:ID".
Result<base::Fd> namespace_of(driver::Driver& driver, const char* flag, const std::string& given, const char* kind) {
  TRY(const std::string pid, pid_of_running(driver, flag, given));
  auto opened = base::open_file(str("/proc/", pid, "/ns/", kind), O_RDONLY | O_CLOEXEC);
  // What was opened is the container's if that still runs now.
  TRY(const std::string after, pid_of_running(driver, flag, given));
  if (after != pid) return Error::unavailable(str(flag, " ", given, ": the container was started anew: try again"));
  return opened;
}

Result<std::string> pid_of_running(driver::Driver& driver, const char* flag, const std::string& given) {
  TRY(const auto all, list_containers(driver));
  TRY(const auto found, find_container(all, given.substr(kContainer.size())));
  std::string pid = attribute(found.task, "pid");
  if (found.task.state == driver::TaskState::kRunning && !pid.empty() && pid != "0") return pid;
  return Error::failed_precondition(str(flag, " ", given, ": the container does not run: start it first"));
}

// As the runtime finds it.
std::string path_of(const base::Fd& fd) {
  return str("/proc/", ::getpid(), "/fd/", fd.get());
}

Status check_address(const char* flag, const std::string& address, bool v6) {
  if (address.empty()) return {};
  if (driver::is_ip_address(address) && (address.find(':') != std::string::npos) == v6) return {};
  return Error::invalid_argument(str(flag, " ", address, " is not an IPv", v6 ? "6" : "4", " address"));
}

int list_networks(Call& call, const std::string& output, bool names_only) {
  const auto all = driver::list_networks(call.globals.options());
  if (!all) return fail(call.io, all.error());
  std::vector<std::vector<std::string>> rows = {{"NETWORK", "NAME", "PLUGINS", "FILE"}};
  Json shown = Json::array();
  std::set<std::string> seen;
  for (const driver::NetworkInfo& info : *all) {
    if (!info.problem.empty()) {
      print_note(call.io, info.problem);
      continue;
    }
    if (!seen.insert(info.name).second) {
      print_note(call.io, str(info.file, " has the name of another network, ", info.network, ", and is not used"));
      continue;
    }
    if (names_only) print_line(call.io, info.network);
    rows.push_back({info.name, info.network, info.plugins, info.file.empty() ? "-" : info.file});
    shown.push_back({{"network", info.name}, {"name", info.network}, {"plugins", info.plugins}, {"file", info.file}});
  }
  if (names_only) return kExitOk;
  if (output == "json") {
    print_json(call.io, shown);
  } else {
    print_rows(call.io, rows);
  }
  return kExitOk;
}

int inspect_networks(Call& call, const std::vector<std::string>& wanted) {
  const auto all = driver::list_networks(call.globals.options());
  if (!all) return fail(call.io, all.error());
  Json shown = Json::array();
  int exit_code = kExitOk;
  for (const std::string& name : wanted) {
    bool found = false;
    for (const driver::NetworkInfo& info : *all) {
      if (found || !info.problem.empty() || (info.name != name && info.network != name)) continue;
      found = true;
      Json containers = Json::array();
      for (const auto& attached : driver::attached_networks(call.globals.options().data_dir, "")) {
        if (attached.network != info.network) continue;
        containers.push_back({{"container_id", attached.container_id},
                              {"ip_address", attached.address},
                              {"ip6_address", attached.address_v6}});
      }
      const auto list = base::parse_json(info.text, info.network);
      shown.push_back({{"network", info.name},
                       {"name", info.network},
                       {"file", info.file},
                       {"config", list ? *list : Json()},
                       {"containers", std::move(containers)}});
    }
    if (!found) {
      exit_code = fail(call.io, Error::not_found(str("there is no network ", name, ": see network ls")), kExitMisuse);
    }
  }
  print_json(call.io, shown);
  return exit_code;
}

}  // namespace
}  // namespace cli
