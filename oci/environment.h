// What programs that talk to registries get of our environment: proxies and trust stores, which the operator sets
// there. Nothing else is passed on.
#pragma once

#include <string>
#include <vector>

namespace oci {

/// "http_proxy=…", "HTTPS_PROXY=…", "SSL_CERT_FILE=…" and kin, as far as they are set.
std::vector<std::string> network_environment();

}  // namespace oci
