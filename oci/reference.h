// Names of images: "redis" → docker.io/library/redis:latest. Pure.
// spec: the grammar and the "familiar name" rules of the Docker/OCI reference format
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "oci/digest.h"

namespace oci {

constexpr std::size_t kRepositoryPathBytesMax = 255;
constexpr std::size_t kTagBytesMax = 128;
constexpr std::size_t kHostBytesMax = 261;  ///< of a name in DNS, and a port
/// Longest text that parse() looks at: host, path, tag and digest at their limits, and room to spare. So it accepts
/// every canonical name.
constexpr std::size_t kReferenceBytesMax = 1024;
static_assert(kHostBytesMax + 1 + kRepositoryPathBytesMax + 1 + kTagBytesMax + 1 + 71 <= kReferenceBytesMax);

/// A canonical image name: a host, a repository on it, and either a tag or a digest. Value type.
class Reference {
 public:
  /// Parses and completes what people write: no host means docker.io, one component there gets "library/", no tag and
  /// no digest means ":latest", and a digest makes a tag beside it irrelevant (it is dropped).
  ///   errors  kInvalidArgument, naming the text and what is wrong · kUnimplemented digest of another algorithm
  static base::Result<Reference> parse(std::string_view text);

  const std::string& host() const { return host_; }              ///< "docker.io", "localhost:5000", "[::1]:5000"
  const std::string& repository() const { return repository_; }  ///< "library/redis"
  const std::string& tag() const { return tag_; }                ///< "" if by digest
  const std::optional<Digest>& digest() const { return digest_; }

  /// What a registry is asked for: the digest if there is one, else the tag.
  const std::string& tag_or_digest() const { return digest_ ? digest_->text() : tag_; }
  /// "docker.io/library/redis:7" or "docker.io/library/redis@sha256:…".
  std::string canonical() const;

  bool operator==(const Reference&) const = default;

 private:
  Reference() = default;
  std::string host_;
  std::string repository_;
  std::string tag_;
  std::optional<Digest> digest_;
};

}  // namespace oci
