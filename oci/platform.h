// Which of an index's manifests runs on this host. Pure, except for host_platform().
// spec: image-spec image-index.md "platform"; names as Go spells them (GOOS, GOARCH)
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace oci {

struct Platform {
  std::string os;
  std::string architecture;
  std::string variant;
  std::vector<std::string> os_features;
  bool operator==(const Platform&) const = default;
};

/// Folds the spellings in use into one: x86_64 → amd64, aarch64 → arm64, armhf → arm/v7, amd64/v1 → amd64,
/// arm64/v8 → arm64, arm → arm/v7.
Platform normalize(Platform platform);

/// This machine's, normalized; variant as far as uname and /proc/cpuinfo tell.
const Platform& host_platform();

/// How well an image for `image` fits `host`: 0 is best, larger is worse, nullopt does not run. Both normalized.
/// A host tries its own variant, then each older one, then what its CPUs also execute (amd64: 386; arm64: arm).
std::optional<int> fit(const Platform& image, const Platform& host);

/// "linux/arm64", "linux/arm/v7", "arm64" for Linux: as people write it, normalized.
///   errors  kInvalidArgument malformed, or another system than Linux
base::Result<Platform> parse_platform(std::string_view text);
/// The platform that an image is wanted for, as the store records it: "" for this host's own, also when its system and
/// architecture are named.
///   errors  as parse_platform()
base::Result<std::string> wanted_platform(std::string_view text);

/// "linux/arm64/v8" style, without an empty variant.
std::string to_string(const Platform& platform);

}  // namespace oci
