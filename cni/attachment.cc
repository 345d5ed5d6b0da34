#include "cni/attachment.h"

#include "base/json.h"
#include "base/text.h"

namespace cni {

namespace {

using base::Error;
using base::Json;
using base::Result;
using base::Status;
using base::str;

constexpr std::int64_t kPortMax = 65535;

Json json_of_port(const PortMapping& port);
Result<PortMapping> port_of(const Json& object);
Json json_of_dns(const Dns& dns);
Result<Dns> supplied_dns_of(const Json& object);
Json json_of_bandwidth(const Bandwidth& bandwidth);
Result<Bandwidth> bandwidth_of(const Json& object);
Result<std::vector<std::string>> words_at(const Json& object, const char* key);

}  // namespace

Status check_attachment(const Attachment& attachment) {
  const auto shown = [](std::string_view text) { return base::printable(text.substr(0, 64)); };
  if (!is_name(attachment.container_id)) {
    return Error::invalid_argument(str("\"", shown(attachment.container_id), "\" cannot be a container's id in CNI"));
  }
  if (!is_ifname(attachment.ifname)) {
    return Error::invalid_argument(str("\"", shown(attachment.ifname),
                                       "\" cannot be an interface's name: use at most 15 bytes without \"/\", \":\" "
                                       "and blanks"));
  }
  if (!attachment.netns.empty() && !attachment.netns.starts_with('/')) {
    return Error::invalid_argument(str("the network namespace ", shown(attachment.netns), " is not an absolute path"));
  }
  for (const std::string& ip : attachment.supplied.ips) {
    if (is_ip(ip) || is_cidr(ip)) continue;
    return Error::invalid_argument(str("\"", shown(ip), "\" is not an IP address"));
  }
  return {};
}

Json capability_args(const Supplied& supplied) {
  Json object = Json::object();
  for (const PortMapping& port : supplied.port_mappings) object["portMappings"].push_back(json_of_port(port));
  if (!supplied.ips.empty()) object["ips"] = supplied.ips;
  if (!supplied.mac.empty()) object["mac"] = supplied.mac;
  if (!supplied.aliases.empty()) object["aliases"] = supplied.aliases;
  if (supplied.dns) object["dns"] = json_of_dns(*supplied.dns);
  if (supplied.bandwidth) object["bandwidth"] = json_of_bandwidth(*supplied.bandwidth);
  return object;
}

Result<Supplied> parse_capability_args(const Json& object) {
  Supplied supplied;
  TRY(const Json* ports, base::get_array(object, "portMappings"));
  if (ports != nullptr) {
    for (const Json& each : *ports) {
      TRY(PortMapping port, port_of(each));
      supplied.port_mappings.push_back(std::move(port));
    }
  }
  TRY(supplied.ips, words_at(object, "ips"));
  TRY(const auto mac, base::get_string(object, "mac"));
  supplied.mac = mac.value_or("");
  TRY(supplied.aliases, words_at(object, "aliases"));
  TRY(const Json* dns, base::get_object(object, "dns"));
  if (dns != nullptr) {
    TRY(supplied.dns, supplied_dns_of(*dns));
  }
  TRY(const Json* bandwidth, base::get_object(object, "bandwidth"));
  if (bandwidth != nullptr) {
    TRY(supplied.bandwidth, bandwidth_of(*bandwidth));
  }
  return supplied;
}

std::vector<std::string> undeclared(const NetworkList& list, const Supplied& supplied) {
  std::vector<std::string> missing;
  const Json args = capability_args(supplied);
  for (const auto& [name, value] : args.items()) {
    bool declared = false;
    for (const PluginConf& plugin : list.plugins) declared = declared || plugin.capabilities.contains(name);
    if (!declared) missing.push_back(name);
  }
  return missing;
}

std::string input_text(const PluginInput& input) {
  Json object = Json::parse(input.plugin.json, nullptr, false);
  CHECK(object.is_object());  // parse_list made it
  object["name"] = input.list.name;
  object["cniVersion"] = input.list.version.text();
  if (input.attachment != nullptr) {
    Json runtime = Json::object();
    const Json supplied = capability_args(input.attachment->supplied);
    for (const auto& [name, value] : supplied.items()) {
      if (input.plugin.capabilities.contains(name)) runtime[name] = value;
    }
    if (!runtime.empty()) object["runtimeConfig"] = std::move(runtime);
  }
  if (!input.prev_result.empty()) {
    Json prev = Json::parse(input.prev_result, nullptr, false);
    if (prev.is_object()) object["prevResult"] = std::move(prev);
  }
  if (input.valid_attachments != nullptr) {
    Json valid = Json::array();
    for (const Attachment& each : *input.valid_attachments) {
      valid.push_back({{"containerID", each.container_id}, {"ifname", each.ifname}});
    }
    object["cni.dev/valid-attachments"] = valid;
    object["cni.dev/attachments"] = std::move(valid);  // the name that the specification had before
  }
  return base::dump_json(object);
}

std::string args_text(const Attachment& attachment) {
  std::string text;
  for (const auto& [key, value] : attachment.args) {
    if (key.empty() || str(key, value).find_first_of(";=") != std::string::npos) continue;
    text += str(text.empty() ? "" : ";", key, "=", value);
  }
  return text;
}

namespace {

Json json_of_port(const PortMapping& port) {
  Json object = {{"hostPort", port.host_port}, {"containerPort", port.container_port}, {"protocol", port.protocol}};
  if (!port.host_ip.empty()) object["hostIP"] = port.host_ip;
  return object;
}

Result<PortMapping> port_of(const Json& object) {
  if (!object.is_object()) return Error::invalid_argument("a port mapping is not an object");
  PortMapping port;
  for (const auto& [key, into] : {std::pair{"hostPort", &port.host_port}, {"containerPort", &port.container_port}}) {
    TRY(const auto value, base::get_int(object, key));
    if (!value || *value < 0 || *value > kPortMax) return Error::invalid_argument(str(key, " is not a port"));
    *into = static_cast<std::uint16_t>(*value);
  }
  TRY(const auto protocol, base::get_string(object, "protocol"));
  TRY(const auto host_ip, base::get_string(object, "hostIP"));
  port.protocol = protocol.value_or("tcp");
  port.host_ip = host_ip.value_or("");
  return port;
}

Json json_of_dns(const Dns& dns) {
  return {{"servers", dns.nameservers}, {"searches", dns.search}, {"options", dns.options}};
}

Result<Dns> supplied_dns_of(const Json& object) {
  Dns dns;
  TRY(dns.nameservers, words_at(object, "servers"));
  TRY(dns.search, words_at(object, "searches"));
  TRY(dns.options, words_at(object, "options"));
  return dns;
}

Json json_of_bandwidth(const Bandwidth& bandwidth) {
  return {{"ingressRate", bandwidth.ingress_rate},
          {"ingressBurst", bandwidth.ingress_burst},
          {"egressRate", bandwidth.egress_rate},
          {"egressBurst", bandwidth.egress_burst}};
}

Result<Bandwidth> bandwidth_of(const Json& object) {
  Bandwidth bandwidth;
  for (const auto& [key, into] : {std::pair{"ingressRate", &bandwidth.ingress_rate},
                                  {"ingressBurst", &bandwidth.ingress_burst},
                                  {"egressRate", &bandwidth.egress_rate},
                                  {"egressBurst", &bandwidth.egress_burst}}) {
    TRY(const auto value, base::get_int(object, key));
    *into = static_cast<std::uint64_t>(value.value_or(0));
  }
  return bandwidth;
}

Result<std::vector<std::string>> words_at(const Json& object, const char* key) {
  TRY(auto words, base::get_string_list(object, key));
  return std::move(words).value_or(std::vector<std::string>());
}

}  // namespace
}  // namespace cni
