#include "cni/result.h"

#include <arpa/inet.h>

#include <array>
#include <charconv>

#include "base/json.h"
#include "base/text.h"

namespace cni {

namespace {

using base::Error;
using base::Json;
using base::Result;
using base::Status;
using base::str;

constexpr std::size_t kMessageBytesMax = 2048;  ///< of what a plugin says

Result<Json> parse_answer(std::string_view text, std::string_view what);
Status take(const Json& object, const char* key, std::string& into);
Result<Interface> interface_of(const Json& object);
Result<Address> address_of(const Json& object, std::size_t interfaces);
Result<Route> route_of(const Json& object);
Result<Dns> dns_of(const Json& object);
Json json_of(const Interface& interface, const Version& version);
Json json_of(const Address& address, const Version& version);
Json json_of(const Route& route, const Version& version);
Json json_of(const Dns& dns);
void put(Json& object, const char* key, const std::string& value);
void put(Json& object, const char* key, const std::vector<std::string>& values);

}  // namespace

Result<AddResult> parse_result(std::string_view text, const Version& expected) {
  TRY(const Json object, parse_answer(text, "its result"));
  TRY(const auto named, base::get_string(object, "cniVersion"));
  if (named && !named->empty() && *named != expected.text()) TRY_VOID(parse_version(*named, "its result"));
  AddResult result;
  TRY(const Json* interfaces, base::get_array(object, "interfaces"));
  if (interfaces != nullptr) {
    for (const Json& each : *interfaces) {
      TRY(Interface interface, interface_of(each));
      result.interfaces.push_back(std::move(interface));
    }
  }
  TRY(const Json* ips, base::get_array(object, "ips"));
  if (ips != nullptr) {
    for (const Json& each : *ips) {
      TRY(Address address, address_of(each, result.interfaces.size()));
      result.ips.push_back(std::move(address));
    }
  }
  TRY(const Json* routes, base::get_array(object, "routes"));
  if (routes != nullptr) {
    for (const Json& each : *routes) {
      TRY(Route route, route_of(each));
      result.routes.push_back(std::move(route));
    }
  }
  TRY(const Json* dns, base::get_object(object, "dns"));
  if (dns != nullptr) {
    TRY(result.dns, dns_of(*dns));
  }
  return result;
}

std::string result_text(const AddResult& result, const Version& version) {
  Json object = {{"cniVersion", version.text()}, {"dns", json_of(result.dns)}};
  for (const Interface& each : result.interfaces) object["interfaces"].push_back(json_of(each, version));
  for (const Address& each : result.ips) object["ips"].push_back(json_of(each, version));
  for (const Route& each : result.routes) object["routes"].push_back(json_of(each, version));
  return base::dump_json(object);
}

std::optional<PluginError> parse_error(std::string_view text) {
  const auto object = parse_answer(text, "error");
  if (!object || !object->contains("code")) return std::nullopt;
  const auto code = base::get_int(*object, "code");
  const auto message = base::get_string(*object, "msg");
  const auto details = base::get_string(*object, "details");
  if (!code || !*code || **code == 0) return std::nullopt;
  PluginError error{**code, ""};
  if (message && *message) error.message = **message;
  if (details && *details && !(*details)->empty()) {
    error.message += str(error.message.empty() ? "" : "; ", **details);
  }
  error.message = base::printable(error.message.substr(0, kMessageBytesMax));
  if (error.message.empty()) error.message = str("error ", error.code, " without a message");
  return error;
}

base::Code code_of(const PluginError& error) {
  switch (error.code) {
    case 1:
    case 2:
    case 4:
    case 6:
    case 7:
      return base::Code::kInvalidArgument;
    case 11:
    case 50:
    case 51:
      return base::Code::kUnavailable;
    default:
      return base::Code::kFailedPrecondition;
  }
}

Result<std::vector<std::string>> parse_versions(std::string_view text) {
  TRY(const Json object, parse_answer(text, "its answer to VERSION"));
  TRY(const auto versions, base::get_string_list(object, "supportedVersions"));
  if (versions && !versions->empty()) return *versions;
  return Error::invalid_argument("its answer to VERSION names no supportedVersions");
}

bool is_ip(std::string_view text) {
  const std::string plain(text);
  std::array<unsigned char, sizeof(in6_addr)> buffer;
  return ::inet_pton(AF_INET, plain.c_str(), buffer.data()) == 1 ||
         ::inet_pton(AF_INET6, plain.c_str(), buffer.data()) == 1;
}

bool is_cidr(std::string_view text) {
  constexpr int kBits4 = 32;
  constexpr int kBits6 = 128;
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos || !is_ip(text.substr(0, slash))) return false;
  const std::string_view bits = text.substr(slash + 1);
  int value = -1;
  const auto [end, ec] = std::from_chars(bits.data(), bits.data() + bits.size(), value);
  const int most = text.find(':') == std::string_view::npos ? kBits4 : kBits6;
  return ec == std::errc() && end == bits.data() + bits.size() && value >= 0 && value <= most;
}

namespace {

Result<Json> parse_answer(std::string_view text, std::string_view what) {
  base::JsonLimits limits;
  limits.bytes_max = kOutputBytesMax;
  limits.duplicate_keys = true;
  TRY(Json object, base::parse_json(text, what, limits));
  if (object.is_object()) return object;
  return Error::invalid_argument(str(what, " is not a JSON object"));
}

Status take(const Json& object, const char* key, std::string& into) {
  TRY(auto value, base::get_string(object, key));
  if (value) into = *std::move(value);
  return {};
}

Result<Interface> interface_of(const Json& object) {
  if (!object.is_object()) return Error::invalid_argument("an interface of its result is not an object");
  Interface interface;
  TRY_VOID(take(object, "name", interface.name));
  TRY_VOID(take(object, "mac", interface.mac));
  TRY_VOID(take(object, "sandbox", interface.sandbox));
  TRY_VOID(take(object, "socketPath", interface.socket_path));
  TRY_VOID(take(object, "pciID", interface.pci_id));
  TRY(interface.mtu, base::get_int(object, "mtu"));
  return interface;
}

Result<Address> address_of(const Json& object, std::size_t interfaces) {
  if (!object.is_object()) return Error::invalid_argument("an address of its result is not an object");
  Address address;
  TRY_VOID(take(object, "address", address.address));
  TRY_VOID(take(object, "gateway", address.gateway));
  if (!is_cidr(address.address)) {
    return Error::invalid_argument(
        str("its result has the address \"", base::printable(address.address.substr(0, 64)), "\""));
  }
  if (!address.gateway.empty() && !is_ip(address.gateway)) {
    return Error::invalid_argument(
        str("its result has the gateway \"", base::printable(address.gateway.substr(0, 64)), "\""));
  }
  TRY(const auto index, base::get_int(object, "interface"));
  if (!index) return address;
  if (*index < 0 || static_cast<std::uint64_t>(*index) >= interfaces) {
    return Error::invalid_argument(
        str("its result has an address of interface ", *index, ", and ", interfaces, " interfaces"));
  }
  address.interface = static_cast<std::size_t>(*index);
  return address;
}

Result<Route> route_of(const Json& object) {
  if (!object.is_object()) return Error::invalid_argument("a route of its result is not an object");
  Route route;
  TRY_VOID(take(object, "dst", route.dst));
  TRY_VOID(take(object, "gw", route.gw));
  if (!is_cidr(route.dst)) {
    return Error::invalid_argument(str("its result has a route to \"", base::printable(route.dst.substr(0, 64)), "\""));
  }
  TRY(route.mtu, base::get_int(object, "mtu"));
  TRY(route.advmss, base::get_int(object, "advmss"));
  TRY(route.priority, base::get_int(object, "priority"));
  TRY(route.table, base::get_int(object, "table"));
  TRY(route.scope, base::get_int(object, "scope"));
  return route;
}

Result<Dns> dns_of(const Json& object) {
  Dns dns;
  const auto words = [&](const char* key, std::vector<std::string>& into) -> Status {
    TRY(auto list, base::get_string_list(object, key));
    if (list) into = *std::move(list);
    return {};
  };
  TRY_VOID(words("nameservers", dns.nameservers));
  TRY_VOID(take(object, "domain", dns.domain));
  TRY_VOID(words("search", dns.search));
  TRY_VOID(words("options", dns.options));
  return dns;
}

Json json_of(const Interface& interface, const Version& version) {
  Json object = {{"name", interface.name}};
  put(object, "mac", interface.mac);
  put(object, "sandbox", interface.sandbox);
  if (version < kGcSince) return object;
  if (interface.mtu) object["mtu"] = *interface.mtu;
  put(object, "socketPath", interface.socket_path);
  put(object, "pciID", interface.pci_id);
  return object;
}

Json json_of(const Address& address, const Version& version) {
  Json object = {{"address", address.address}};
  if (version < kNoFamilySince) object["version"] = address.is_v6() ? "6" : "4";
  put(object, "gateway", address.gateway);
  if (address.interface) object["interface"] = *address.interface;
  return object;
}

Json json_of(const Route& route, const Version& version) {
  Json object = {{"dst", route.dst}};
  put(object, "gw", route.gw);
  if (version < kGcSince) return object;
  for (const auto& [key, value] : {std::pair{"mtu", route.mtu},
                                   {"advmss", route.advmss},
                                   {"priority", route.priority},
                                   {"table", route.table},
                                   {"scope", route.scope}}) {
    if (value) object[key] = *value;
  }
  return object;
}

Json json_of(const Dns& dns) {
  Json object = Json::object();
  put(object, "nameservers", dns.nameservers);
  put(object, "domain", dns.domain);
  put(object, "search", dns.search);
  put(object, "options", dns.options);
  return object;
}

void put(Json& object, const char* key, const std::string& value) {
  if (!value.empty()) object[key] = value;
}

void put(Json& object, const char* key, const std::vector<std::string>& values) {
  if (!values.empty()) object[key] = values;
}

}  // namespace
}  // namespace cni
