// Which images a node lets jobs name, by the name alone: `allowed_registries` and `require_digest`. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace driver {

struct ImagePolicy {
  std::optional<std::vector<std::string>> registries;  ///< patterns, see check_registry_pattern; unset: every one
  bool require_digest = false;
};

/// Whether `pattern` can be an element of `allowed_registries`:
///   docker.io                 all of this registry; "host:5000" is another one than "host"
///   docker.io/library         this repository and those below it, never a longer name that begins with it
///   *.example.com[/team]      every registry whose name ends with ".example.com", not "example.com" itself
///   docker-archive, oci-archive, oci      images that a job brings along in this form
///   errors  kInvalidArgument, naming `where` and the pattern
base::Status check_registry_pattern(const std::string& where, const std::string& pattern);

/// Whether a job may name `image`. What it is matched as is the full name ("redis" is docker.io/library/redis); the
/// mirrors that may serve it are the operator's own choice, and not asked.
///   errors  kPermissionDenied naming the image and the gate · kInvalidArgument a gate is set, and the name is not a
///   valid one
base::Status check_image(const std::string& image, const ImagePolicy& policy);

}  // namespace driver
