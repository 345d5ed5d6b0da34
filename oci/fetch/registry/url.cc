#include "oci/fetch/registry/url.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>

#include "base/text.h"

namespace oci::fetch {

namespace {

using Handle = std::unique_ptr<CURLU, decltype(&curl_url_cleanup)>;

base::Result<Url> take_apart(CURLU* handle, std::string_view shown);

base::Error bad_url(std::string_view text, std::string_view why) {
  return base::Error::invalid_argument(base::str("URL \"", text.substr(0, text.find('?')), "\" is refused: ", why));
}

}  // namespace

bool same_origin(const Url& a, const Url& b) {
  return a.scheme == b.scheme && a.host == b.host && a.port == b.port;
}

std::string host_and_port(const Url& url) {
  return base::str(url.host, ":", url.port);
}

base::Result<Url> parse_url(std::string_view text) {
  if (text.size() > kUrlBytesMax) return bad_url(text.substr(0, 200), "it is too long");
  if (base::has_control_or_blank(text)) return bad_url("", "it has blanks or control characters");
  const Handle handle(curl_url(), curl_url_cleanup);
  if (!handle || curl_url_set(handle.get(), CURLUPART_URL, std::string(text).c_str(), 0) != CURLUE_OK) {
    return bad_url(text, "it is malformed");
  }
  return take_apart(handle.get(), text);
}

base::Result<Url> resolve_url(const Url& from, std::string_view location) {
  if (location.empty()) return bad_url(location, "a redirect must say where to");
  if (location.size() > kUrlBytesMax) return bad_url(location.substr(0, 200), "it is too long");
  if (base::has_control_or_blank(location)) return bad_url("", "it has blanks or control characters");
  const Handle handle(curl_url(), curl_url_cleanup);
  if (!handle || curl_url_set(handle.get(), CURLUPART_URL, from.text.c_str(), 0) != CURLUE_OK ||
      curl_url_set(handle.get(), CURLUPART_URL, std::string(location).c_str(), 0) != CURLUE_OK) {
    return bad_url(location, "it is malformed");
  }
  return take_apart(handle.get(), location);
}

std::string percent_encode(std::string_view text) {
  constexpr std::string_view kHexDigits = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                       c == '.' || c == '_' || c == '~';
    if (plain) {
      out += c;
    } else {
      out += '%';
      out += kHexDigits[byte >> 4];
      out += kHexDigits[byte & 0xf];
    }
  }
  return out;
}

namespace {

std::string part(CURLU* handle, CURLUPart which, unsigned flags = 0) {
  char* value = nullptr;
  if (curl_url_get(handle, which, &value, flags) != CURLUE_OK) return "";
  std::string out(value);
  curl_free(value);
  return out;
}

base::Result<Url> take_apart(CURLU* handle, std::string_view shown) {
  Url url;
  url.scheme = part(handle, CURLUPART_SCHEME);
  if (url.scheme != "http" && url.scheme != "https") return bad_url(shown, "only http and https are supported");
  if (!part(handle, CURLUPART_USER).empty() || !part(handle, CURLUPART_PASSWORD).empty()) {
    return bad_url("", "it has a user or password in it");
  }
  curl_url_set(handle, CURLUPART_FRAGMENT, nullptr, 0);
  url.host = base::ascii_lower(part(handle, CURLUPART_HOST));
  url.port = part(handle, CURLUPART_PORT, CURLU_DEFAULT_PORT);
  url.text = part(handle, CURLUPART_URL);
  if (url.host.empty() || url.text.empty()) return bad_url(shown, "it names no host");
  return url;
}

std::optional<in_addr_t> parse_ipv4(std::string_view host) {
  in_addr address{};
  if (::inet_pton(AF_INET, std::string(host).c_str(), &address) != 1) return std::nullopt;
  return ntohl(address.s_addr);
}

std::optional<in6_addr> parse_ipv6(std::string_view host) {
  if (host.size() < 2 || host.front() != '[' || host.back() != ']') return std::nullopt;
  host = host.substr(1, host.size() - 2);
  host = host.substr(0, host.find('%'));  // a zone does not make it less local
  in6_addr address{};
  if (::inet_pton(AF_INET6, std::string(host).c_str(), &address) != 1) return std::nullopt;
  return address;
}

bool in_block(in_addr_t address, in_addr_t network, int bits) {
  return (address ^ network) >> (32 - bits) == 0;
}

bool is_loopback_v4(in_addr_t a) {
  return in_block(a, 0x7f000000, 8);
}
bool is_local_v4(in_addr_t a) {
  return is_loopback_v4(a) || in_block(a, 0xa9fe0000, 16) || in_block(a, 0, 8);
}
bool is_private_v4(in_addr_t a) {
  return is_local_v4(a) || in_block(a, 0x0a000000, 8) || in_block(a, 0xac100000, 12) || in_block(a, 0xc0a80000, 16);
}

// ::ffff:a.b.c.d is the IPv4 address to the kernel.
std::optional<in_addr_t> mapped_v4(const in6_addr& address) {
  if (!IN6_IS_ADDR_V4MAPPED(&address)) return std::nullopt;
  in_addr_t v4 = 0;
  std::memcpy(&v4, &address.s6_addr[12], sizeof v4);
  return ntohl(v4);
}

template <typename OnV4, typename OnV6>
bool matches(std::string_view host, OnV4 on_v4, OnV6 on_v6) {
  if (const auto v4 = parse_ipv4(host)) return on_v4(*v4);
  const auto v6 = parse_ipv6(host);
  if (!v6) return false;
  if (const auto v4 = mapped_v4(*v6)) return on_v4(*v4);
  return on_v6(*v6);
}

bool is_local_v6(const in6_addr& a) {
  return IN6_IS_ADDR_LOOPBACK(&a) || IN6_IS_ADDR_UNSPECIFIED(&a) || IN6_IS_ADDR_LINKLOCAL(&a);
}

}  // namespace

bool is_loopback(std::string_view host) {
  if (host == "localhost") return true;
  return matches(host, is_loopback_v4, [](const in6_addr& a) { return IN6_IS_ADDR_LOOPBACK(&a) != 0; });
}

bool is_local_literal(std::string_view host) {
  return host == "localhost" || matches(host, is_local_v4, is_local_v6);
}

bool is_private_literal(std::string_view host) {
  return host == "localhost" || matches(host, is_private_v4, [](const in6_addr& a) {
           return is_local_v6(a) || (a.s6_addr[0] & 0xfe) == 0xfc;
         });
}

}  // namespace oci::fetch
