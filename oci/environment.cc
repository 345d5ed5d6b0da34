#include "oci/environment.h"

#include <stdlib.h>

#include "base/result.h"

namespace oci {

std::vector<std::string> network_environment() {
  std::vector<std::string> out;
  const auto pass = [&](const char* from, const char* to) {
    const char* value = ::getenv(from);
    if (value != nullptr) out.push_back(base::str(to, "=", value));
    return value != nullptr;
  };
  // libcurl reads the upper-case form of every name but this one.
  if (!pass("http_proxy", "http_proxy")) pass("HTTP_PROXY", "http_proxy");
  for (const char* name : {"https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY",
                           "SSL_CERT_FILE", "SSL_CERT_DIR"}) {
    pass(name, name);
  }
  return out;
}

}  // namespace oci
