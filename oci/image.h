// What the store knows about an image. Values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "oci/digest.h"
#include "oci/image_config.h"

namespace oci {

/// What an image's verifiers said when they approved it.
struct Verdict {
  std::string verifiers;  ///< which ones: an approval by others does not count (ImageVerifier::id)
  std::string word;       ///< their reason, one line
  std::int64_t at_unix = 0;
  bool operator==(const Verdict&) const = default;
};

/// A complete image in the store: every layer is unpacked.
struct Image {
  std::string reference;   ///< canonical: "docker.io/library/redis:7"
  Digest manifest_digest;  ///< of the platform's manifest
  Digest resolved_digest;  ///< what the tag resolved to (an index's digest, or manifest_digest)
  ImageConfig config;
  std::vector<std::string> layer_dirs;  ///< absolute paths of unpacked layers, bottom first; none of an empty image
  std::uint64_t size_bytes = 0;         ///< compressed layers + config + manifest
  std::int64_t pulled_at_unix = 0;      ///< 0 if unknown
  std::optional<Verdict> verdict = {};  ///< of this very content under this name
  std::optional<Digest> config_digest = {};  ///< what Docker calls the image's ID
};

struct ImageSummary {
  std::string reference;
  Digest manifest_digest;
  Digest resolved_digest;
  std::uint64_t size_bytes = 0;  ///< 0 if there is a problem
  std::string architecture;
  std::int64_t pulled_at_unix = 0;  ///< 0 if unknown
  std::optional<Verdict> verdict = {};
  std::string problem = {};                  ///< what is missing, damaged or unreadable; "" = it can be used
  std::optional<Digest> config_digest = {};  ///< unset if there is a problem
  bool pinned = false;                       ///< collections leave it alone
};

}  // namespace oci
