// URLs of registries: parsing (by libcurl, so that what is checked is what is connected to), origins, and which hosts
// are local. Pure.
#pragma once

#include <set>
#include <string>
#include <string_view>

#include "base/result.h"

namespace oci::fetch {

constexpr std::size_t kUrlBytesMax = 8u << 10;  // signed object-store links have 1 to 2 KiB

/// An absolute http or https URL without user or password.
struct Url {
  std::string text;
  std::string scheme;  ///< "http" or "https"
  std::string host;    ///< lower case; IPv6 in brackets
  std::string port;    ///< never empty

  /// The text without its query, which may hold a signature that is as good as a password.
  std::string redacted() const { return text.substr(0, text.find('?')); }
};

bool same_origin(const Url& a, const Url& b);
/// "r.example:5000".
std::string host_and_port(const Url& url);
/// Hosts and ports that the operator has made plain HTTP, wherever: as host_and_port() has them.
using PlainHosts = std::set<std::string>;

/// kInvalidArgument: not absolute, another scheme, user info in it, control characters, too long.
base::Result<Url> parse_url(std::string_view text);
/// Where a "Location: location" in the answer of `from` leads to.
base::Result<Url> resolve_url(const Url& from, std::string_view location);

/// localhost, 127.0.0.0/8, ::1: the only hosts that plain HTTP may be spoken to.
bool is_loopback(std::string_view host);
/// A literal address of this machine or its link: loopback, link-local, unspecified. What a registry on another machine
/// has no business to send us to.
bool is_local_literal(std::string_view host);
/// A literal address that is local or private (10/8, 172.16/12, 192.168/16, fc00::/7).
bool is_private_literal(std::string_view host);

/// "%20" and so on, for values in a query.
std::string percent_encode(std::string_view text);

}  // namespace oci::fetch
