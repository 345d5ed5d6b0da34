#include "driver/net/ports.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "base/fd.h"

namespace driver {

namespace {

using base::Error;
using base::Result;
using base::str;

constexpr int kPicksMax = 100;

union AnyAddress {
  sockaddr any;
  sockaddr_in in4;
  sockaddr_in6 in6;
};

Result<std::uint16_t> try_port(const PublishedPort& port);
bool clash(const PublishedPort& a, const PublishedPort& b);
AnyAddress address_of(const PublishedPort& port, socklen_t& size);

}  // namespace

Result<std::vector<PublishedPort>> settle_ports(std::vector<PublishedPort> wanted,
                                                const std::vector<PublishedPort>& taken) {
  const auto clashes_with = [](const PublishedPort& port, const std::vector<PublishedPort>& all, std::size_t count) {
    return std::any_of(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(count),
                       [&](const PublishedPort& other) { return clash(port, other); });
  };
  // Fixed ones first, so that no picked one takes theirs.
  std::stable_partition(wanted.begin(), wanted.end(), [](const PublishedPort& port) { return port.host_port != 0; });
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    PublishedPort& port = wanted[i];
    const bool pick = port.host_port == 0;
    for (int picks = 1;; ++picks) {
      if (pick) port.host_port = 0;
      TRY(port.host_port, try_port(port));
      const bool own = clashes_with(port, wanted, i);
      if (!own && !clashes_with(port, taken, taken.size())) break;
      if (pick && picks < kPicksMax) continue;
      if (own) return Error::invalid_argument(str("port ", show_host_port(port), " is to be published twice"));
      return Error::failed_precondition(
          str("port ", show_host_port(port), " of this host is taken by another container: choose another one"));
    }
  }
  return wanted;
}

std::string show_host_address(const PublishedPort& port) {
  const std::string address = port.host_ip.empty() ? "0.0.0.0" : port.host_ip;
  const bool v6 = address.find(':') != std::string::npos;
  return str(v6 ? "[" : "", address, v6 ? "]:" : ":", port.host_port);
}

std::string show_host_port(const PublishedPort& port) {
  return str(show_host_address(port), "/", port.protocol);
}

namespace {

// Which process has it is not asked: that it can be bound is what counts.
Result<std::uint16_t> try_port(const PublishedPort& port) {
  if (port.protocol == "sctp" && port.host_port != 0) return port.host_port;  // no kernel has to know it
  socklen_t size = 0;
  AnyAddress address = address_of(port, size);
  const int type = port.protocol == "udp" ? SOCK_DGRAM : SOCK_STREAM;
  const base::Fd socket(::socket(address.any.sa_family, type | SOCK_CLOEXEC, 0));
  if (!socket) return Error::from_errno(errno, "socket");
  // Connections of an earlier container that are being closed are no reason to refuse.
  const int on = 1;
  if (type == SOCK_STREAM) ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(socket.get(), &address.any, size) != 0) {
    if (errno == EADDRINUSE) {
      return Error::failed_precondition(
          str("port ", show_host_port(port), " of this host is taken by a process: choose another one"));
    }
    if (errno == EADDRNOTAVAIL) {
      return Error::failed_precondition(
          str(port.host_ip, " is not an address of this host: port ", port.host_port, " cannot be published there"));
    }
    return Error::from_errno(errno, str("port ", show_host_port(port)));
  }
  if (port.host_port != 0) return port.host_port;
  if (::getsockname(socket.get(), &address.any, &size) != 0) return Error::from_errno(errno, "getsockname");
  return ntohs(address.any.sa_family == AF_INET6 ? address.in6.sin6_port : address.in4.sin_port);
}

bool clash(const PublishedPort& a, const PublishedPort& b) {
  if (a.host_port != b.host_port || a.protocol != b.protocol) return false;
  const auto every = [](const std::string& ip) { return ip.empty() || ip == "0.0.0.0" || ip == "::"; };
  return every(a.host_ip) || every(b.host_ip) || a.host_ip == b.host_ip;
}

AnyAddress address_of(const PublishedPort& port, socklen_t& size) {
  AnyAddress address = {};
  if (port.host_ip.find(':') != std::string::npos) {
    address.in6.sin6_family = AF_INET6;
    address.in6.sin6_port = htons(port.host_port);
    ::inet_pton(AF_INET6, port.host_ip.c_str(), &address.in6.sin6_addr);
    size = sizeof address.in6;
    return address;
  }
  address.in4.sin_family = AF_INET;
  address.in4.sin_port = htons(port.host_port);
  if (!port.host_ip.empty()) ::inet_pton(AF_INET, port.host_ip.c_str(), &address.in4.sin_addr);
  size = sizeof address.in4;
  return address;
}

}  // namespace
}  // namespace driver
