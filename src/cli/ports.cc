#include "cli/ports.h"

#include <charconv>
#include <optional>

#include "base/text.h"
#include "driver/files/hosts.h"

namespace cli {

namespace {

using base::Error;
using base::Result;
using base::Status;
using base::str;
using driver::PublishedPort;

constexpr int kPortMax = 65535;

struct Range {
  int first = 0;
  int last = 0;
};

Status add_ports(const std::string& value, std::vector<PublishedPort>& ports);
std::optional<Range> range_of(std::string_view text);
std::optional<int> port_of(std::string_view text);
/// Cuts an address off the head of `rest`, with its colon; false: what stands there is none.
bool take_address(std::string_view& rest, std::string& address);

}  // namespace

Result<std::vector<PublishedPort>> parse_ports(const std::vector<std::string>& values) {
  std::vector<PublishedPort> ports;
  for (const std::string& value : values) {
    TRY_VOID(add_ports(value, ports));
    if (ports.size() > kPortsMax) {
      return Error::invalid_argument(str("--publish: more than ", kPortsMax, " ports: use --net host"));
    }
  }
  return ports;
}

namespace {

Status add_ports(const std::string& value, std::vector<PublishedPort>& ports) {
  const auto wrong = [&](std::string_view why) {
    return Error::invalid_argument(
        str("--publish ", value.empty() ? "\"\"" : value, " ", why,
            ": write [IP:][HOST:]CONTAINER[/tcp|udp], like 8080:80 or 127.0.0.1:5353:53/udp"));
  };
  std::string_view rest = value;
  PublishedPort port;
  if (const std::size_t slash = rest.find('/'); slash != std::string_view::npos) {
    port.protocol = base::ascii_lower(rest.substr(slash + 1));
    rest = rest.substr(0, slash);
    if (port.protocol != "tcp" && port.protocol != "udp" && port.protocol != "sctp") {
      return wrong("has a protocol that is not known");
    }
  }
  if (!take_address(rest, port.host_ip)) return wrong("has an address that is none");
  const std::size_t colon = rest.find(':');
  const bool any = colon == std::string_view::npos || colon == 0;
  const auto inside = range_of(colon == std::string_view::npos ? rest : rest.substr(colon + 1));
  if (!inside) return wrong("has no port from 1 to 65535 for the container");
  const auto outside = any ? inside : range_of(rest.substr(0, colon));
  if (!outside) return wrong("has a port of the host that is not from 1 to 65535");
  const int more = inside->last - inside->first;
  if (outside->last - outside->first != more) return wrong("has two ranges of different length");
  for (int i = 0; i <= more && ports.size() <= kPortsMax; ++i) {
    port.host_port = any ? std::uint16_t{0} : static_cast<std::uint16_t>(outside->first + i);
    port.container_port = static_cast<std::uint16_t>(inside->first + i);
    ports.push_back(port);
  }
  return {};
}

bool take_address(std::string_view& rest, std::string& address) {
  if (rest.starts_with('[')) {
    const std::size_t end = rest.find("]:");
    if (end == std::string_view::npos) return false;
    address = rest.substr(1, end - 1);
    rest.remove_prefix(end + 2);
    return address.find(':') != std::string::npos && driver::is_ip_address(address);
  }
  const std::size_t colon = rest.find(':');
  if (colon == std::string_view::npos || rest.find(':', colon + 1) == std::string_view::npos) return true;
  address = rest.substr(0, colon);
  rest.remove_prefix(colon + 1);
  return driver::is_ip_address(address);
}

std::optional<Range> range_of(std::string_view text) {
  const std::size_t dash = text.find('-');
  const auto first = port_of(text.substr(0, dash));
  const auto last = dash == std::string_view::npos ? first : port_of(text.substr(dash + 1));
  if (!first || !last || *last < *first) return std::nullopt;
  return Range{*first, *last};
}

std::optional<int> port_of(std::string_view text) {
  int port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size() || port < 1 || port > kPortMax) return std::nullopt;
  return port;
}

}  // namespace
}  // namespace cli
