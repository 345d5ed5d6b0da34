// What `containerd-driver login` needs of a registry: its word on a user name and a password.
#pragma once

#include <vector>

#include "base/context.h"
#include "base/result.h"
#include "oci/fetch/registry/hosts.h"
#include "oci/pull_protocol.h"

namespace oci::fetch {

/// Asks the registry itself, and none of its mirrors, whether it accepts the request's credentials.
///   in   hosts: hosts_of the request's reference
///   errors  kPermissionDenied it does not · kFailedPrecondition only mirrors are configured · as Registry::manifest
base::Status check_login(const base::Context& ctx, const HelperRequest& request, const std::vector<Host>& hosts);

}  // namespace oci::fetch
