// Seccomp profiles that a job brings: a file of the node, in OCI's form (runtime-spec "Seccomp") or in Docker's, which
// adds archMap and, to each rule, includes and excludes. Docker's form is resolved here, as no runtime knows it.
#pragma once

#include <set>
#include <string>
#include <string_view>

#include "base/json_fwd.h"
#include "base/result.h"
#include "driver/spec/security.h"

namespace driver {

inline constexpr std::size_t kSeccompProfileBytesMax = 1u << 20;  ///< Docker's own default has 20 KiB

/// Where a profile's conditional rules are decided.
struct SeccompTarget {
  std::string_view arch;       ///< Go's name: amd64, arm64, …
  std::set<std::string> caps;  ///< the bounding set, normalised names
  int kernel_major = 0;
  int kernel_minor = 0;
};

/// The text of the file. Symbolic links are followed; only a regular file is read.
///   errors  kInvalidArgument naming the path: missing, not a regular file, too large. Never quotes its content: it may
///   be
///           any file of the node
base::Result<std::string> read_seccomp_profile(const std::string& path);

/// The profile as OCI's LinuxSeccomp object: rules whose conditions do not hold are left out, conditions are removed.
///   errors  kInvalidArgument naming the rule and the member: unknown action, operator or member, too many rules
base::Result<base::Json> resolve_seccomp_profile(std::string_view text, const SeccompTarget& target);

}  // namespace driver
