// The hosts that serve a reference: the mirrors that the operator has configured, then its registry.
//
// disk   <dir>/<host>_<port>_/, <dir>/<host>:<port>/ or <dir>/<host>/, else <dir>/_default/: hosts.toml, or in Docker's
//        manner *.crt (CA certificates), NAME.cert with NAME.key (client certificate). The first folder that exists, in
//        the order of the dirs, is the one that counts. Read at each pull.
// spec   containerd docs/hosts.md; Docker "Verify repository client with certificates"
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "oci/fetch/registry/http.h"
#include "oci/fetch/registry/url.h"
#include "oci/reference.h"

namespace oci::fetch {

constexpr std::size_t kPlainFoldersMax = 1000;  ///< folders of one of `dirs` that are looked at for plain HTTP
constexpr std::size_t kCertificateFileBytesMax = 4u << 20;

struct Host {
  Url base;  ///< "https://registry-1.docker.io/v2/"
  /// Of a registry on loopback that nothing is configured for: where to ask if no TLS is spoken there.
  std::optional<Url> plain = {};
  bool resolve = true;  ///< may say what a tag means
  /// The reference's own registry: the only one that its credentials are for.
  bool own = true;
  /// "" or "ns=docker.io": what a mirror of several registries is told.
  std::string query;
  std::vector<std::string> headers;  ///< "Name: value", for this host alone
  /// If it is plain HTTP by the operator's word: where else it may send us by that.
  PlainHosts plain_hosts = {};
  Transport transport;

  /// "registry-1.docker.io", "127.0.0.1:5000": for messages.
  std::string name() const;
};

/// The hosts to ask for `reference`, in order; at least one. Without a folder for it in any of `dirs` (separated by
/// ":") that is its registry: by https, and on loopback by plain HTTP if it speaks no TLS, whose certificate is not
/// looked at then; docker.io is served by another name.
///   errors  kFailedPrecondition naming the file, and what is wrong in it
base::Result<std::vector<Host>> hosts_of(const Reference& reference, const std::string& dirs,
                                         const std::function<void(const std::string&)>& warn);

/// Files and folders that are read while these hosts are talked to: client certificates, and what the environment names
/// as trusted.
std::vector<std::string> files_for(const std::vector<Host>& hosts);

}  // namespace oci::fetch
