// One container's place in a network: what is asked of the plugins, and how that is told to them. Pure.
//
// spec  CNI SPEC.md "Section 2: Execution Protocol", CONVENTIONS.md for capabilities
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json_fwd.h"
#include "base/result.h"
#include "cni/result.h"
#include "cni/types.h"

namespace cni {

struct PortMapping {
  std::uint16_t host_port = 0;
  std::uint16_t container_port = 0;
  std::string protocol = "tcp";  ///< tcp, udp or sctp
  std::string host_ip;           ///< "" = every address of the host
  bool operator==(const PortMapping&) const = default;
};

struct Bandwidth {
  std::uint64_t ingress_rate = 0;  ///< bits a second, towards the container
  std::uint64_t ingress_burst = 0;
  std::uint64_t egress_rate = 0;
  std::uint64_t egress_burst = 0;
};

/// What a runtime may supply. Only plugins that declare the capability get to know of it.
struct Supplied {
  std::vector<PortMapping> port_mappings;
  std::vector<std::string> ips;  ///< with their prefix, or without
  std::string mac;
  std::vector<std::string> aliases;
  std::optional<Dns> dns;
  std::optional<Bandwidth> bandwidth;
};

struct Attachment {
  std::string container_id;
  std::string netns;  ///< path of the namespace; "" = it is gone (DEL only)
  std::string ifname = "eth0";
  std::vector<std::pair<std::string, std::string>> args;  ///< CNI_ARGS
  Supplied supplied;
};

///   errors  kInvalidArgument naming the part that cannot be
base::Status check_attachment(const Attachment& attachment);

/// Everything that is supplied, by its capability: {"portMappings": […], "ips": […], …}.
base::Json capability_args(const Supplied& supplied);
/// The reverse.
base::Result<Supplied> parse_capability_args(const base::Json& object);
/// Names of what is supplied and no plugin of the list declares.
std::vector<std::string> undeclared(const NetworkList& list, const Supplied& supplied);

/// What a plugin reads: its own object with name, version, runtimeConfig and prevResult.
struct PluginInput {
  const NetworkList& list;
  const PluginConf& plugin;
  const Attachment* attachment = nullptr;                   ///< null for GC and STATUS
  std::string_view prev_result = {};                        ///< a JSON document, "" = none
  const std::vector<Attachment>* valid_attachments = {};    ///< GC only
};
std::string input_text(const PluginInput& input);

/// "K=V;K=V". Values with ";" or "=" cannot be told and are left out.
std::string args_text(const Attachment& attachment);

}  // namespace cni
