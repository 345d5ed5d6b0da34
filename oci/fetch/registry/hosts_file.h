// hosts.toml: which hosts serve a registry's images, in which order, and how each is reached. Pure.
// spec: containerd, docs/hosts.md; the same file serves both programs
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/fetch/registry/url.h"

namespace oci::fetch {

constexpr std::size_t kHostsFileBytesMax = 256u << 10;
constexpr std::size_t kMirrorsMax = 32;
constexpr std::size_t kHostHeadersMax = 64;
constexpr std::size_t kHostHeaderBytesMax = 16u << 10;
constexpr std::chrono::minutes kDialTimeoutMax{10};

/// One host, as the file describes it.
struct HostEntry {
  Url base;             ///< ends with "/": repository, kind and name follow it
  bool stated = false;  ///< the file gives the URL
  bool pull = true;     ///< serves content by digest
  bool resolve = true;  ///< may say what a tag means
  bool skip_verify = false;
  std::vector<std::string> ca_files;  ///< absolute; beside the system's
  std::string client_cert;            ///< absolute, or "" for none
  std::string client_key;             ///< absolute, or "" when client_cert has it too
  std::vector<std::string> headers;   ///< "Name: value"; values may be secret
  std::chrono::milliseconds dial_timeout{std::chrono::seconds(30)};
};

struct HostsFile {
  std::vector<HostEntry> mirrors;  ///< in the file's order
  HostEntry server;                ///< asked last
  std::vector<std::string> ignored_keys;
};

/// Reads the text of `path` (for messages, and for the folder that relative names are below). Without a `server` it is
/// `own`, the registry's own address.
///   errors  kFailedPrecondition "PATH line N: …", naming key and remedy; no value of a header
base::Result<HostsFile> parse_hosts_file(std::string_view text, const std::string& path, const Url& own);

}  // namespace oci::fetch
