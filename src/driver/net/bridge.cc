#include "driver/net/bridge.h"

#include <arpa/inet.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <optional>
#include <sstream>

#include "base/file.h"
#include "base/json.h"

namespace driver {

namespace {

using base::Error;
using base::Json;
using base::Result;
using base::Status;
using base::str;

constexpr std::size_t kRoutesBytesMax = 4u << 20;

struct Subnet {
  std::uint32_t address = 0;  ///< network byte order
  std::uint32_t mask = 0;
};

std::optional<Subnet> subnet_of(const std::string& cidr);
std::optional<Subnet> subnet_of_route(const std::string& destination, const std::string& mask);
bool overlap(const Subnet& a, const Subnet& b);
std::string shown(const Subnet& subnet);

}  // namespace

std::string bridge_conflist(const BridgeNetworkOptions& options, bool ipv6, bool ports) {
  Json ranges = Json::array({Json::array({{{"subnet", options.subnet}}})});
  Json routes = Json::array({{{"dst", "0.0.0.0/0"}}});
  if (ipv6 && !options.subnet_v6.empty()) {
    ranges.push_back(Json::array({{{"subnet", options.subnet_v6}}}));
    routes.push_back({{"dst", "::/0"}});
  }
  Json bridge = {{"type", "bridge"},
                 {"bridge", options.name},
                 {"isGateway", true},
                 {"forceAddress", true},
                 {"hairpinMode", true},
                 {"capabilities", {{"ips", true}, {"mac", true}}},
                 {"ipam", {{"type", "host-local"}, {"ranges", std::move(ranges)}, {"routes", std::move(routes)}}}};
  if (options.mtu > 0) bridge["mtu"] = options.mtu;
  if (!options.dns.empty()) bridge["dns"] = {{"nameservers", options.dns}};
  Json plugins = Json::array({std::move(bridge)});
  if (ports) plugins.push_back({{"type", "portmap"}, {"snat", true}, {"capabilities", {{"portMappings", true}}}});
  return base::dump_json_pretty({{"cniVersion", "0.4.0"}, {"name", options.name}, {"plugins", std::move(plugins)}});
}

Status check_routes(const BridgeNetworkOptions& options, std::string_view routes) {
  const auto own = subnet_of(options.subnet);
  CHECK(own.has_value());  // checked with the options
  std::istringstream lines{std::string(routes)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream in(line);
    std::vector<std::string> words;
    for (std::string word; in >> word;) words.push_back(word);
    // interface, destination, gateway, flags, …, mask
    if (words.size() < 8 || words[0] == options.name) continue;
    const auto route = subnet_of_route(words[1], words[7]);
    if (!route || route->mask == 0 || !overlap(*own, *route)) continue;
    return Error::failed_precondition(
        str("the subnet ", options.subnet, " of network ", options.name, " overlaps with the route to ", shown(*route),
            " by ", words[0], ": give bridge_network { subnet } another one in the plugin's configuration"));
  }
  return {};
}

Status check_host_routes(const BridgeNetworkOptions& options) {
  TRY(const std::string routes, base::read_file("/proc/net/route", kRoutesBytesMax));
  return check_routes(options, routes);
}

bool host_has_ipv6() {
  return ::access("/proc/net/if_inet6", F_OK) == 0;
}

namespace {

std::optional<Subnet> subnet_of(const std::string& cidr) {
  constexpr int kBits = 32;
  const std::size_t slash = cidr.find('/');
  if (slash == std::string::npos) return std::nullopt;
  int bits = 0;
  std::from_chars(cidr.data() + slash + 1, cidr.data() + cidr.size(), bits);
  in_addr address = {};
  if (::inet_pton(AF_INET, cidr.substr(0, slash).c_str(), &address) != 1 || bits < 0 || bits > kBits) {
    return std::nullopt;
  }
  return Subnet{address.s_addr, bits == 0 ? 0 : htonl(~std::uint32_t{0} << (kBits - bits))};
}

std::optional<Subnet> subnet_of_route(const std::string& destination, const std::string& mask) {
  constexpr int kHex = 16;
  Subnet subnet;
  const auto read = [](const std::string& text, std::uint32_t& into) {
    return std::from_chars(text.data(), text.data() + text.size(), into, kHex).ec == std::errc();
  };
  if (!read(destination, subnet.address) || !read(mask, subnet.mask)) return std::nullopt;
  return subnet;
}

bool overlap(const Subnet& a, const Subnet& b) {
  const std::uint32_t common = a.mask & b.mask;
  return (a.address & common) == (b.address & common);
}

std::string shown(const Subnet& subnet) {
  std::array<char, INET_ADDRSTRLEN> text = {};
  in_addr address = {};
  address.s_addr = subnet.address;
  ::inet_ntop(AF_INET, &address, text.data(), text.size());
  return str(text.data(), "/", __builtin_popcount(subnet.mask));
}

}  // namespace
}  // namespace driver
