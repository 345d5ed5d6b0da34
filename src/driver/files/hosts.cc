#include "driver/files/hosts.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>

#include "base/file.h"
#include "base/text.h"

namespace driver {

using base::Error;
using base::Result;
using base::Status;
using base::str;

namespace {

constexpr std::size_t kResolvConfBytesMax = 64u << 10;
constexpr std::size_t kHostsBytesMax = 16u << 20;  // lists of advertisers' names have some MiB
constexpr std::string_view kHostGateway = "host-gateway";

constexpr std::array<std::array<std::string_view, 2>, 6> kDefaultHosts = {{
    {"127.0.0.1", "localhost"},
    {"::1", "localhost ip6-localhost ip6-loopback"},
    {"fe00::0", "ip6-localnet"},
    {"ff00::0", "ip6-mcastprefix"},
    {"ff02::1", "ip6-allnodes"},
    {"ff02::2", "ip6-allrouters"},
}};

/// What a resolv.conf says, as far as we replace it.
struct ResolvConf {
  std::vector<std::string> servers;
  std::vector<std::string> searches;
  std::vector<std::string> options;
};

ResolvConf parse_resolv_conf(std::string_view text);
std::vector<std::string> words_of(std::string_view line);
Status check_words(std::string_view what, const std::vector<std::string>& words);
bool only_loopback(const ResolvConf& conf);
std::string without_servers(std::string_view text);
Result<std::string> read_if_there(const std::string& path, std::size_t bytes_max);
Result<std::string> task_resolv_conf(const TaskSpec& spec, HostNetwork host_network);
Result<std::string> task_hosts_text(const TaskSpec& spec, const EtcInput& input);

}  // namespace

std::string hosts_text(const HostsInput& input) {
  std::string text = input.base_text;
  if (text.empty()) {
    for (const auto& [address, names] : kDefaultHosts) text += str(address, "\t", names, "\n");
  } else if (!text.ends_with('\n')) {
    text += '\n';
  }
  if (!input.hostname.empty()) {
    text += str(input.address.empty() ? std::string("127.0.1.1") : input.address, "\t", input.hostname, "\n");
  }
  for (const HostEntry& entry : input.extra) text += str(entry.address, "\t", entry.name, "\n");
  return text;
}

Result<std::string> resolv_conf_text(const std::optional<Dns>& dns, std::string_view host_text) {
  if (!dns) return std::string(host_text);
  for (const std::string& server : dns->servers) {
    if (!is_ip_address(server)) {
      return Error::invalid_argument(str("dns server \"", server, "\" is not an IP address"));
    }
  }
  TRY_VOID(check_words("dns search domain", dns->searches));
  TRY_VOID(check_words("dns option", dns->options));
  const ResolvConf host = parse_resolv_conf(host_text);
  const auto& servers = dns->servers.empty() ? host.servers : dns->servers;
  const auto& searches = dns->searches.empty() ? host.searches : dns->searches;
  const auto& options = dns->options.empty() ? host.options : dns->options;
  std::string text;
  const auto add_line = [&](std::string_view keyword, const std::vector<std::string>& words) {
    if (words.empty()) return;
    text += keyword;
    for (const std::string& word : words) text += " " + word;
    text += '\n';
  };
  if (searches != std::vector<std::string>{"."}) add_line("search", searches);  // as Docker has it: none
  for (const std::string& server : servers) text += str("nameserver ", server, "\n");
  add_line("options", options);
  return text;
}

Result<HostEntry> parse_extra_host(const std::string& text) {
  const std::size_t at = text.find_first_of(":=");
  HostEntry entry{at == std::string::npos ? "" : text.substr(at + 1), text.substr(0, at)};
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
  constexpr std::size_t kNameBytesMax = 253;  // RFC 1035
  if (entry.address.empty() || entry.name.empty() || entry.name.size() > kNameBytesMax ||
      entry.name.find_first_not_of(kAllowed) != std::string::npos) {
    return Error::invalid_argument(str("bad format for add-host: \"", text, "\": write name:address"));
  }
  if (entry.address.starts_with('[') && entry.address.ends_with(']')) {
    entry.address = entry.address.substr(1, entry.address.size() - 2);
  }
  if (entry.address == kHostGateway || is_ip_address(entry.address)) return entry;
  return Error::invalid_argument(
      str("invalid IP address in add-host: \"", entry.address, "\": write an address or ", kHostGateway));
}

bool is_ip_address(std::string_view text) {
  // A zone ("fe80::1%eth0") is fine for the resolver and unknown to inet_pton.
  const std::string plain(text.substr(0, text.find('%')));
  std::array<unsigned char, sizeof(in6_addr)> buffer;
  const bool zone = plain.size() != text.size();
  return (!zone && ::inet_pton(AF_INET, plain.c_str(), buffer.data()) == 1) ||
         ::inet_pton(AF_INET6, plain.c_str(), buffer.data()) == 1;
}

std::optional<Dns> task_dns(const TaskSpec& spec) {
  const TaskOptions& own = spec.options;
  std::optional<Dns> dns = spec.dns;
  if (own.dns_servers.empty() && own.dns_search_domains.empty() && own.dns_options.empty()) return dns;
  if (!dns) dns.emplace();
  if (!own.dns_servers.empty()) dns->servers = own.dns_servers;
  if (!own.dns_search_domains.empty()) dns->searches = own.dns_search_domains;
  if (!own.dns_options.empty()) dns->options = own.dns_options;
  return dns;
}

Result<std::string> read_host_resolv_conf(const std::string& path, const std::vector<std::string>& upstream_paths) {
  TRY(std::string text, read_if_there(path, kResolvConfBytesMax));
  if (!only_loopback(parse_resolv_conf(text))) return text;
  for (const std::string& upstream : upstream_paths) {
    TRY(std::string real, read_if_there(upstream, kResolvConfBytesMax));
    const ResolvConf conf = parse_resolv_conf(real);
    if (!conf.servers.empty() && !only_loopback(conf)) return real;
  }
  return without_servers(text);
}

Result<EtcFiles> write_etc_files(const std::string& etc_dir, const TaskSpec& spec, const EtcInput& input) {
  TRY(const std::string hosts, task_hosts_text(spec, input));
  constexpr mode_t kDirMode = 0711;
  constexpr mode_t kFileMode = 0644;
  TRY_VOID(base::make_dirs(etc_dir, kDirMode));
  EtcFiles files{etc_dir + "/hosts", etc_dir + "/resolv.conf", etc_dir + "/hostname"};
  const auto write = [](const std::string& path, const std::string& text) {
    return base::write_file_atomic(path, text, kFileMode, base::Durable::kNo);
  };
  TRY_VOID(write(files.hosts, hosts));
  TRY_VOID(write(files.hostname, input.hostname + "\n"));
  if (spec.options.host_dns || task_dns(spec)) {
    TRY(const std::string resolv, task_resolv_conf(spec, input.host_network));
    TRY_VOID(write(files.resolv_conf, resolv));
  } else {
    files.resolv_conf.clear();
  }
  return files;
}

namespace {

// Later `search` lines replace earlier ones, the rest adds up, as in resolver(5).
ResolvConf parse_resolv_conf(std::string_view text) {
  ResolvConf conf;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::vector<std::string> words = words_of(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (words.size() < 2) continue;
    const std::string keyword = words.front();
    words.erase(words.begin());
    if (keyword == "nameserver") conf.servers.push_back(words.front());
    if (keyword == "search" || keyword == "domain") conf.searches = words;
    if (keyword == "options") conf.options.insert(conf.options.end(), words.begin(), words.end());
  }
  return conf;
}

std::vector<std::string> words_of(std::string_view line) {
  constexpr std::string_view kBlank = " \t\r";
  std::vector<std::string> words;
  while (true) {
    const std::size_t begin = line.find_first_not_of(kBlank);
    if (begin == std::string_view::npos || line[begin] == '#' || line[begin] == ';') return words;
    line.remove_prefix(begin);
    const std::size_t end = std::min(line.find_first_of(kBlank), line.size());
    words.emplace_back(line.substr(0, end));
    line.remove_prefix(end);
  }
}

Status check_words(std::string_view what, const std::vector<std::string>& words) {
  for (const std::string& word : words) {
    if (word.empty() || base::has_control_or_blank(word)) {
      return Error::invalid_argument(str(what, " \"", word, "\" is empty or contains white space"));
    }
  }
  return {};
}

bool only_loopback(const ResolvConf& conf) {
  return !conf.servers.empty() && std::all_of(conf.servers.begin(), conf.servers.end(), [](const std::string& server) {
    return server.starts_with("127.") || server == "::1";
  });
}

std::string without_servers(std::string_view text) {
  std::string rest;
  for (const std::string_view line : base::split(text, '\n')) {
    const auto words = words_of(line);
    if (line.empty() || (!words.empty() && words.front() == "nameserver")) continue;
    rest += str(line, "\n");
  }
  return rest;
}

Result<std::string> read_if_there(const std::string& path, std::size_t bytes_max) {
  auto text = base::read_file(path, bytes_max);
  if (!text && text.error().code == base::Code::kNotFound) return std::string();
  return text;
}

// A stub resolver is reachable from the host's own network, so there the host's file is right as it is.
Result<std::string> task_resolv_conf(const TaskSpec& spec, HostNetwork host_network) {
  TRY(const std::string of_host, host_network == HostNetwork::kYes
                                     ? read_if_there("/etc/resolv.conf", kResolvConfBytesMax)
                                     : read_host_resolv_conf());
  return resolv_conf_text(task_dns(spec), of_host);
}

Result<std::string> task_hosts_text(const TaskSpec& spec, const EtcInput& input) {
  HostsInput hosts;
  hosts.hostname = input.hostname;
  hosts.address = input.address;
  const bool on_host = input.host_network == HostNetwork::kYes;
  if (on_host) {
    TRY(hosts.base_text, read_if_there("/etc/hosts", kHostsBytesMax));
  }
  for (const std::string& text : spec.options.extra_hosts) {
    TRY(HostEntry entry, parse_extra_host(text));
    if (entry.address == kHostGateway) {
      entry.address = on_host ? "127.0.0.1" : input.gateway;
      if (entry.address.empty()) {
        return Error::invalid_argument(str("extra_hosts: \"", text,
                                           "\" needs a route to the host, and this task's network has none: give the "
                                           "group a network { mode = \"bridge\" }"));
      }
    }
    hosts.extra.push_back(std::move(entry));
  }
  return hosts_text(hosts);
}

}  // namespace
}  // namespace driver
