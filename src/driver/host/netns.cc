#include "driver/host/netns.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <net/route.h>
#include <sched.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <sstream>
#include <vector>

#include "base/file.h"
#include "base/thread.h"

namespace driver {

using base::Error;
using base::Result;
using base::str;

namespace {

constexpr std::size_t kRoutesBytesMax = 4u << 20;

Result<NetnsFacts> enter_and_look(int netns_fd, const std::string& path);
std::string first_address();
std::string text_of(const sockaddr& address);
std::string read_routes(const char* path);
std::vector<std::string> words_of(const std::string& line);
bool is_gateway(const std::string& flags_hex);

}  // namespace

Result<NetnsFacts> look_into_netns(const std::string& path) {
  TRY(const base::Fd netns, base::open_file(path, O_RDONLY | O_NONBLOCK));
  Result<NetnsFacts> facts = Error::internal("not looked");
  TRY(std::jthread inside, base::start_thread("netns", [&] { facts = enter_and_look(netns.get(), path); }));
  inside.join();
  return facts;
}

std::string default_gateway(std::string_view route, std::string_view ipv6_route) {
  std::istringstream lines{std::string(route)};
  for (std::string line; std::getline(lines, line);) {
    const auto words = words_of(line);  // interface, destination, gateway, flags, …, mask: all of the host's byte order
    if (words.size() < 8 || words[1] != "00000000" || words[7] != "00000000" || !is_gateway(words[3])) continue;
    in_addr address = {};
    const char* const end = words[2].data() + words[2].size();
    if (std::from_chars(words[2].data(), end, address.s_addr, 16).ptr != end) continue;
    std::array<char, INET_ADDRSTRLEN> text = {};
    if (::inet_ntop(AF_INET, &address, text.data(), text.size()) != nullptr) return text.data();
  }
  std::istringstream lines6{std::string(ipv6_route)};
  for (std::string line; std::getline(lines6, line);) {
    const auto words = words_of(line);  // destination, its length, source, its length, next hop, …, flags, interface
    if (words.size() < 10 || words[0] != std::string(32, '0') || words[1] != "00" || words[4].size() != 32) continue;
    if (!is_gateway(words[8])) continue;
    std::string text;
    for (std::size_t i = 0; i < words[4].size(); i += 4) text += str(i == 0 ? "" : ":", words[4].substr(i, 4));
    in6_addr address = {};
    std::array<char, INET6_ADDRSTRLEN> shown = {};
    if (::inet_pton(AF_INET6, text.c_str(), &address) != 1) continue;
    if (::inet_ntop(AF_INET6, &address, shown.data(), shown.size()) != nullptr) return shown.data();
  }
  return "";
}

namespace {

Result<NetnsFacts> enter_and_look(int netns_fd, const std::string& path) {
  if (::setns(netns_fd, CLONE_NEWNET) != 0) return Error::from_errno(errno, str("entering network namespace ", path));
  NetnsFacts facts;
  facts.address = first_address();
  facts.gateway =
      default_gateway(read_routes("/proc/thread-self/net/route"), read_routes("/proc/thread-self/net/ipv6_route"));
  return facts;
}

std::string first_address() {
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return "";
  std::string found4;
  std::string found6;
  for (const ifaddrs* one = all; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr || (one->ifa_flags & IFF_LOOPBACK) != 0) continue;
    if (one->ifa_addr->sa_family == AF_INET && found4.empty()) found4 = text_of(*one->ifa_addr);
    if (one->ifa_addr->sa_family == AF_INET6 && found6.empty()) found6 = text_of(*one->ifa_addr);
  }
  ::freeifaddrs(all);
  return found4.empty() ? found6 : found4;
}

// "" for addresses of the link only.
std::string text_of(const sockaddr& address) {
  std::array<char, INET6_ADDRSTRLEN> text = {};
  if (address.sa_family == AF_INET) {
    const auto& in = reinterpret_cast<const sockaddr_in&>(address);
    return ::inet_ntop(AF_INET, &in.sin_addr, text.data(), text.size()) == nullptr ? "" : text.data();
  }
  const auto& in = reinterpret_cast<const sockaddr_in6&>(address);
  if (IN6_IS_ADDR_LINKLOCAL(&in.sin6_addr)) return "";
  return ::inet_ntop(AF_INET6, &in.sin6_addr, text.data(), text.size()) == nullptr ? "" : text.data();
}

// A kernel without IPv6 has no such file.
std::string read_routes(const char* path) {
  return base::read_file(path, kRoutesBytesMax).value_or(std::string());
}

std::vector<std::string> words_of(const std::string& line) {
  std::istringstream in(line);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

bool is_gateway(const std::string& flags_hex) {
  unsigned flags = 0;
  std::from_chars(flags_hex.data(), flags_hex.data() + flags_hex.size(), flags, 16);
  return (flags & RTF_GATEWAY) != 0;
}

}  // namespace
}  // namespace driver
