// A hosts.toml of anything: it is refused with its name and line, or what comes out is within the limits and safe to
// use.
#include <cstdlib>
#include <string_view>

#include "oci/fetch/registry/hosts_file.h"

namespace {

void check(const oci::fetch::HostEntry& entry) {
  if (!entry.base.text.ends_with('/') || (entry.base.scheme != "https" && entry.base.scheme != "http")) std::abort();
  if (entry.headers.size() > oci::fetch::kHostHeadersMax || entry.dial_timeout.count() <= 0) std::abort();
  for (const std::string& header : entry.headers) {
    if (header.find_first_of(std::string_view("\r\n\0", 3)) != std::string::npos) std::abort();
  }
  for (const std::string& file : entry.ca_files) {
    if (!file.starts_with('/') || file.find('\0') != std::string::npos) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto own = *oci::fetch::parse_url("https://registry.example/v2/");
  const std::string path = "/etc/certs.d/registry.example/hosts.toml";
  const auto file = oci::fetch::parse_hosts_file({reinterpret_cast<const char*>(data), size}, path, own);
  if (!file) {
    if (!file.error().message.starts_with(path)) std::abort();
    return 0;
  }
  if (file->mirrors.size() > oci::fetch::kMirrorsMax) std::abort();
  for (const auto& mirror : file->mirrors) check(mirror);
  check(file->server);
  return 0;
}
