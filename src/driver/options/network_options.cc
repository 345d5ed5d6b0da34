// The rows of the option table about names and networks, and those of other drivers that Nomad's own blocks replace.
#include <algorithm>
#include <array>
#include <string_view>

#include "base/json.h"
#include "base/text.h"
#include "driver/files/hosts.h"
#include "driver/options/rows.h"

namespace driver {

using base::Error;
using base::Json;
using base::Result;
using base::Status;
using base::str;

namespace {

Status check_network_mode(const std::string& where, const std::string& value);
Status check_extra_host(const std::string& where, const std::string& value);
Status check_server(const std::string& where, const std::string& value);
Status check_word(const std::string& where, const std::string& value);
Option<TaskOptions> logging_row();
Status check_folders(const std::string& where, const std::string& value);
Status check_bridge_network(const std::string& where, const BridgeNetworkOptions& options);
const OptionTable<BridgeNetworkOptions>& bridge_network_table();

}  // namespace

OptionTable<TaskOptions> network_rows() {
  return {
      boolean("host_network", &TaskOptions::host_network,
              {.example = "true",
               .text = "Run in the host's network. Without it and without a group network the task has a network of "
                       "its own with nothing but the loopback interface."}),
      text("network_mode", &TaskOptions::network_mode,
           {.example = "\"host\"",
            .text = "As in Docker's driver: `host` is `host_network = true`; `bridge` and `none` are accepted if the "
                    "group's "
                    "`network` block says the same. Other networks are made by that block.",
            .check = check_network_mode}),
      list("ports", &TaskOptions::ports,
           {.example = "[\"http\"]",
            .text = "Docker's list of port labels. The group's `network` block maps ports, so the labels are only "
                    "checked against it.",
            .check = check_name}),
      list("extra_hosts", &TaskOptions::extra_hosts,
           {.example = "[\"db.local:10.0.0.5\", \"host.docker.internal:host-gateway\"]",
            .text = "Lines of `/etc/hosts`: `name:address`. `host-gateway` is the address at which the task reaches "
                    "the host.",
            .check = check_extra_host}),
      boolean("host_dns", &TaskOptions::host_dns,
              {.example = "false",
               .text = "Whether a task without DNS settings of its own or its group's resolves names as the host does. "
                       "`false`: `/etc/resolv.conf` is the image's."}),
      list("dns_servers", &TaskOptions::dns_servers,
           {.example = "[\"10.0.0.2\"]",
            .text =
                "Addresses of name servers. This and the next two each override that part of the group's `dns` block.",
            .check = check_server}),
      list("dns_search_domains", &TaskOptions::dns_search_domains,
           {.example = "[\"internal.corp\"]", .text = "Search domains for short names.", .check = check_word}),
      list("dns_options", &TaskOptions::dns_options,
           {.example = "[\"ndots:2\"]", .text = "Resolver options, as in resolv.conf(5).", .check = check_word}),
  };
}

OptionTable<PluginOptions> network_defaults() {
  return {
      choice(
          "default_network", &PluginOptions::default_network,
          {{"none", DefaultNetwork::kNone}, {"host", DefaultNetwork::kHost}, {"bridge", DefaultNetwork::kBridge}},
          {.example = "\"host\"",
           .text = "The network of a task that asks for none itself and whose agent tells of none: `none` is loopback "
                   "alone, `host` the host's, `bridge` the driver's own (see `bridge_network`). "
                   "An agent tells drivers nothing of a group's `network { mode = "
                   "\"host\" }` without ports, so this is for it, too. Unset: `none`."}),
      choice("networks", &PluginOptions::networks, {{"agent", NetworksBy::kAgent}, {"driver", NetworksBy::kDriver}},
             {.example = "\"driver\"",
              .text = "Who makes the network namespaces of groups with `network { mode = \"bridge\" }` or `\"cni/…\"`. "
                      "With `driver` a group may have a `hostname`, as with Docker's driver. Interfaces, addresses and "
                      "ports are the agent's work either way. Unset: `agent`."}),
      block("bridge_network", &PluginOptions::bridge_network, bridge_network_table(), check_bridge_network,
            {.example = "subnet = \"10.88.0.0/16\"\nsubnet_v6 = \"\"",
             .text = "The driver's own network, which it makes with CNI plugins for `default_network = \"bridge\"` and "
                     "for the command line; see networking.md."}),
      text("cni_path", &PluginOptions::cni_path,
           {.example = "\"/opt/cni/bin\"",
            .text = "Where CNI plugins are, several folders separated by `:`.",
            .check = check_folders}),
      text("cni_config_dir", &PluginOptions::cni_config_dir,
           {.example = "\"/etc/cni/net.d\"",
            .text = "Where the networks of this node are, for `--net cni/NAME` of the command line: folders with "
                    "`*.conflist` files, separated by `:`.",
            .check = check_folders}),
  };
}

OptionTable<TaskOptions> refused_rows() {
  const auto one = [](const char* name, const char* hcl_type, const char* example, const char* text) {
    return refused<TaskOptions>(name, hcl_type, {.example = example, .text = text});
  };
  constexpr const char* kPorts = "map ports in the group's `network` block (`port \"http\" { to = 8080 }`)";
  constexpr const char* kAddresses =
      "addresses are given by the group's network: use `network { mode = \"cni/<name>\" }` for a network of your own";
  constexpr const char* kNames =
      "tasks of a group share a network and reach each other at 127.0.0.1; other groups are found by `service` blocks";
  constexpr const char* kVolumes = "use a `volume` block in the group and `volume_mount` in the task";
  return {
      one("port_map", "any", "{\n  http = 8080\n}", kPorts),
      one("publish_all_ports", "bool", "true", kPorts),
      one("ipv4_address", "string", "\"10.0.0.7\"", kAddresses),
      one("ipv6_address", "string", "\"fd00::7\"", kAddresses),
      one("mac_address", "string", "\"02:42:ac:11:00:02\"", kAddresses),
      one("advertise_ipv6_address", "bool", "true", "the address of a service is chosen by its `address_mode`"),
      one("links", "list(string)", "[\"db\"]", kNames),
      one("network_aliases", "list(string)", "[\"db\"]", kNames),
      one("volume_driver", "string", "\"rexray\"", kVolumes),
      one("volumes_from", "list(string)", "[\"db\"]", kVolumes),
      one("isolation", "string", "\"hyperv\"", "it applies to Windows only"),
      logging_row(),
  };
}

OptionTable<TaskOptions> idle_rows() {
  const auto one = [](const char* name, const char* hcl_type, const char* example, const char* text) {
    return without_effect<TaskOptions>(name, hcl_type, {.example = example, .text = text});
  };
  return {
      one("container_exists_attempts", "number", "5",
          "Known from Docker's driver. Names of containers do not clash here."),
      one("healthchecks", "any", "{\n  disable = true\n}",
          "Known from Docker's driver. An image's HEALTHCHECK is not run: use `check` in a `service` block."),
      one("init_path", "string", "\"/usr/libexec/podman/catatonit\"",
          "Known from Podman's driver. The program for `init` is the node's to name."),
      one("socket", "string", "\"default\"", "Known from Podman's driver. There is no service behind this one."),
      one("windows_allow_insecure_container_admin", "bool", "true", "Known from Docker's driver."),
  };
}

Status merge_network_options(TaskOptions& options) {
  if (options.network_mode == "host") options.host_network = true;
  if (options.host_network && !options.network_mode.empty() && options.network_mode != "host") {
    return refuse("network_mode", options.network_mode, "contradicts host_network = true: keep one");
  }
  return {};
}

namespace {

Status check_folders(const std::string& where, const std::string& value) {
  for (const std::string_view folder : base::split(value, ':')) TRY_VOID(check_absolute(where, std::string(folder)));
  return {};
}

const OptionTable<BridgeNetworkOptions>& bridge_network_table() {
  constexpr std::int64_t kMtuMax = 65535;
  static const OptionTable<BridgeNetworkOptions> table = {
      text("name", &BridgeNetworkOptions::name,
           {.example = "\"cdnet0\"",
            .text = "The name of the network, and of its bridge on the host.",
            .check = check_name}),
      text("subnet", &BridgeNetworkOptions::subnet,
           {.example = "\"10.88.0.0/16\"",
            .text = "IPv4 addresses for tasks. If the host has another route into it, they are refused and told which.",
            .check = check_name}),
      text("subnet_v6", &BridgeNetworkOptions::subnet_v6,
           {.example = "\"\"", .text = "IPv6 addresses for tasks; `\"\"` for none.", .check = check_name}),
      number("mtu", &BridgeNetworkOptions::mtu, 0, kMtuMax,
             {.example = "1450", .text = "The largest packet; 0 as the kernel has it."}),
      boolean("firewall", &BridgeNetworkOptions::firewall,
              {.example = "false", .text = "Whether iptables is told to let this network's packets pass."}),
      list("dns", &BridgeNetworkOptions::dns,
           {.example = "[\"10.0.0.2\"]",
            .text = "Name servers of tasks that name none themselves. Unset: the host's.",
            .check = check_server}),
  };
  return table;
}

bool is_subnet(const std::string& text, bool v6, int bits_max) {
  const std::size_t slash = text.find('/');
  if (slash == std::string::npos || text.find('%') != std::string::npos) return false;
  const std::string address = text.substr(0, slash);
  const std::string bits = text.substr(slash + 1);
  constexpr std::size_t kDigitsMax = 3;
  if (!is_ip_address(address) || (address.find(':') != std::string::npos) != v6 || bits.empty() ||
      bits.size() > kDigitsMax || bits.find_first_not_of("0123456789") != std::string::npos) {
    return false;
  }
  constexpr int kBitsMin = 8;
  return std::stoi(bits) >= kBitsMin && std::stoi(bits) <= bits_max;
}

// With room for a gateway and a task at least.
Status check_bridge_network(const std::string& where, const BridgeNetworkOptions& options) {
  constexpr std::size_t kNameBytesMax = 15;
  constexpr int kBitsMax4 = 29;
  constexpr int kBitsMax6 = 125;
  const auto allowed = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_'; };
  if (options.name.size() > kNameBytesMax || options.name.empty() || options.name.front() == '-' ||
      !std::all_of(options.name.begin(), options.name.end(), allowed)) {
    return refuse(where + ".name", options.name, "cannot be a bridge's: use at most 15 of [a-z0-9_-]");
  }
  if (!is_subnet(options.subnet, false, kBitsMax4)) {
    return refuse(where + ".subnet", options.subnet, "is not an IPv4 subnet: write one like 10.88.0.0/16, up to /29");
  }
  if (!options.subnet_v6.empty() && !is_subnet(options.subnet_v6, true, kBitsMax6)) {
    return refuse(where + ".subnet_v6", options.subnet_v6,
                  "is not an IPv6 subnet: write one like fd00:1::/64, or \"\"");
  }
  return {};
}

Status check_network_mode(const std::string& where, const std::string& value) {
  TRY_VOID(check_name(where, value));
  if (value.empty() || value == "host" || value == "bridge" || value == "none") return {};
  return refuse(where, value,
                "is not supported: networks are made by the group's network block, like network { mode = \"bridge\" } "
                "or network { mode = \"cni/<name>\" }");
}

Status check_extra_host(const std::string& where, const std::string& value) {
  TRY_VOID(check_name(where, value));
  auto entry = parse_extra_host(value);
  if (!entry) return std::move(entry).error().wrap(where);
  return {};
}

Status check_server(const std::string& where, const std::string& value) {
  TRY_VOID(check_name(where, value));
  if (is_ip_address(value)) return {};
  return refuse(where, value, "is not an IP address");
}

Status check_word(const std::string& where, const std::string& value) {
  TRY_VOID(check_name(where, value));
  if (!value.empty() && value.find_first_of(" \t") == std::string::npos) return {};
  return refuse(where, value, "is empty or contains white space");
}

// Where the output goes with these is where Nomad reads it, so it does here.
Option<TaskOptions> logging_row() {
  static constexpr std::array<std::string_view, 5> kReadByNomad = {"", "json-file", "local", "nomad", "k8s-file"};
  const RowText row = {.example = "{\n  type = \"json-file\"\n}",
                       .text =
                           "Known from Docker's and Podman's driver. Output goes to Nomad's log files: shape them with "
                           "the task's `logs` block, ship them with a log collector. `json-file`, `local`, `nomad` and "
                           "`k8s-file` have no effect; others, which send it elsewhere, are refused."};
  return {
      make_doc("logging", "any", "no effect or refused", "", row),
      [=](TaskOptions& out, const Json& value, const std::string& where) -> Status {
        if (asks_for_nothing(value)) return {};
        TRY(const Json object, decode_block(value, where));
        for (const char* const name : {"type", "driver"}) {
          TRY(const auto kind, base::get_string(object, name));
          const auto& known = kReadByNomad;
          if (!kind || std::find(known.begin(), known.end(), *kind) != known.end()) continue;
          return refuse(
              str(where, ".", name), *kind,
              "is not supported: output goes to Nomad's log files: shape them with the task's `logs` block, ship them "
              "with a log collector");
        }
        out.without_effect.push_back(where);
        return {};
      }};
}

}  // namespace
}  // namespace driver
