#include "oci/fetch/login.h"

#include <algorithm>

#include "oci/fetch/registry/registry.h"
#include "oci/reference.h"

namespace oci::fetch {

base::Status check_login(const base::Context& ctx, const HelperRequest& request, const std::vector<Host>& hosts) {
  TRY(const auto reference, Reference::parse(request.reference));
  const auto own = std::find_if(hosts.begin(), hosts.end(), [](const Host& host) { return host.own; });
  if (own == hosts.end()) {
    return base::Error::failed_precondition(
        base::str("hosts.toml of ", reference.host(), " names mirrors only, and they get no credentials"));
  }
  Registry registry(*own, reference, request.credentials);
  HttpClient http;
  Registry::Hint hint;
  auto checked = registry.check_access(ctx, http, hint);
  if (checked || checked.error().code != base::Code::kPermissionDenied) return checked;
  return base::Error::permission_denied(base::str(reference.host(), " does not accept this user name and password"));
}

}  // namespace oci::fetch
