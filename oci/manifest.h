// Manifests and indexes: which blobs an image consists of, for which platform. Pure.
// spec: image-spec manifest.md, image-index.md, descriptor.md; Docker's "image manifest V2, schema 2" is the same shape
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/json_fwd.h"
#include "base/result.h"
#include "oci/digest.h"
#include "oci/image_config.h"
#include "oci/platform.h"

namespace oci {

constexpr std::size_t kManifestBytesMax = 4u << 20;  ///< distribution-spec: what registries must accept at least
constexpr std::uint64_t kBlobBytesMax = 1ull << 40;
constexpr std::size_t kIndexEntriesMax = 1000;

constexpr std::string_view kOciIndexType = "application/vnd.oci.image.index.v1+json";
constexpr std::string_view kOciManifestType = "application/vnd.oci.image.manifest.v1+json";
constexpr std::string_view kDockerIndexType = "application/vnd.docker.distribution.manifest.list.v2+json";
constexpr std::string_view kDockerManifestType = "application/vnd.docker.distribution.manifest.v2+json";

enum class MediaKind { kIndex, kManifest, kConfig, kLayer, kOther };
/// Parameters ("; charset=utf-8") must be gone already.
MediaKind media_kind(std::string_view media_type);
/// "application/json; charset=utf-8" → "application/json", in lower case.
std::string strip_media_parameters(std::string_view content_type);

/// The same, but "" for types that only say how to show a document (application/json, text/plain, …): then it has the
/// type that it says itself.
std::string announced_type(std::string_view content_type);
/// What a document says that it is, or is by its shape; "" if neither tells. No more than a guess: parse_manifest()
/// checks.
std::string media_type_in(std::string_view text);

struct Descriptor {
  std::string media_type;
  Digest digest;
  std::uint64_t size = 0;
  std::optional<Platform> platform;  ///< normalized; indexes only
  bool is_attestation = false;       ///< a signed statement about an image, not an image
};

struct Manifest {
  std::string media_type;
  Descriptor config;
  std::vector<Descriptor> layers;  ///< bottom first
};

struct Index {
  std::vector<Descriptor> manifests;
};

/// Parses what a registry or a store calls a manifest or an index. `media_type` is what it was announced as ("" if
/// unknown: then the document must say); what the document itself says, and how it is built, must agree with it, so
/// that nobody can be shown one thing and run another (CVE-2021-41190).
///   errors  kInvalidArgument malformed, ambiguous, past a limit · kFailedPrecondition a kind of content that we
///           cannot run: schema 1, an artifact that is no image, an encrypted layer
base::Result<std::variant<Manifest, Index>> parse_manifest(std::string_view text, std::string_view media_type,
                                                           std::string_view what);

/// The entries of `index` worth trying on `host`, best first: by fit, then in their order; entries without a platform
/// (and nested indexes) last. Attestations and unknown kinds are left out.
///   errors  kFailedPrecondition nothing fits: the message lists what is offered
base::Result<std::vector<Descriptor>> candidates(const Index& index, const Platform& host, std::string_view what);

}  // namespace oci
