// /etc/hosts, /etc/resolv.conf and /etc/hostname of a task: text from values, and the writer. The files lie on the host
// where the task cannot reach them (etc_dir of its record) and are bind-mounted.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "driver/values/task_spec.h"

namespace driver {

struct HostEntry {
  std::string address;
  std::string name;
};

struct HostsInput {
  /// Start from this text (the host's own file, for tasks in the host's network) instead of the default lines.
  std::string base_text;
  std::string hostname;
  std::string address;  ///< of `hostname`; "" = 127.0.1.1, as Debian does for a host without a fixed address
  std::vector<HostEntry> extra;
};

/// Lines of "address<TAB>name". Pure.
std::string hosts_text(const HostsInput& input);

/// "name:address" of `extra_hosts`, also with '=' and with an IPv6 address in brackets. The address may be
/// "host-gateway".
///   errors  kInvalidArgument in Docker's words ("bad format for add-host", "invalid IP address in add-host")
base::Result<HostEntry> parse_extra_host(const std::string& text);

/// Whether `text` is an IPv4 or IPv6 address, the latter also with a zone.
bool is_ip_address(std::string_view text);

/// The group's dns block with the task's own lists in place of the group's; nothing if neither says anything.
std::optional<Dns> task_dns(const TaskSpec& spec);

/// Nomad's dns block; lists that it leaves out come from `host_text` (the host's resolv.conf). Without `dns`:
/// host_text. Pure.
///   errors  kInvalidArgument naming a server that is not an IP address, or a value with white space
base::Result<std::string> resolv_conf_text(const std::optional<Dns>& dns, std::string_view host_text);

/// The host's resolv.conf as a container can use it: when its servers are stubs at loopback addresses
/// (systemd-resolved, dnsmasq), which only the host's own network reaches, the first of `upstream_paths` that has
/// others; without one it names none. A file that is not there is empty.
///   errors  it cannot be read, or is larger than 64 KiB: an empty file would leave the task without names
base::Result<std::string> read_host_resolv_conf(const std::string& path = "/etc/resolv.conf",
                                                const std::vector<std::string>& upstream_paths = {
                                                    "/run/systemd/resolve/resolv.conf",
                                                    "/run/NetworkManager/no-stub-resolv.conf"});

/// Paths of the written files; "" = that file stays the image's.
struct EtcFiles {
  std::string hosts;
  std::string resolv_conf;
  std::string hostname;
};

enum class HostNetwork : bool { kNo, kYes };

struct EtcInput {
  std::string hostname;
  HostNetwork host_network = HostNetwork::kNo;
  std::string address;  ///< the task's own, "" = none
  std::string gateway;  ///< by which it reaches the host, "" = none
};

/// Writes the files for a task into `etc_dir`, which is made (0711) if missing. Idempotent.
///   errors  kInvalidArgument for a bad dns block, for "host-gateway" without a gateway; else from the file system
base::Result<EtcFiles> write_etc_files(const std::string& etc_dir, const TaskSpec& spec, const EtcInput& input);

}  // namespace driver
