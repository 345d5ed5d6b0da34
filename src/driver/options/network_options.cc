// The rows of the option table about names and networks, and those of other drivers that Nomad's own blocks replace.
#include <algorithm>
#include <array>
#include <string_view>

#include "base/json.h"
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
          "default_network", &PluginOptions::default_host_network, {{"none", false}, {"host", true}},
          {.example = "\"host\"",
           .text = "The network of a task that asks for none itself and whose agent tells of none: `none` is loopback "
                   "alone, `host` the host's. An agent tells drivers nothing of a group's `network { mode = "
                   "\"host\" }` without ports, so this is for it, too. Unset: `none`."}),
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
