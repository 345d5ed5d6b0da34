#include "oci/manifest.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "base/json.h"
#include "oci/members.h"

namespace oci {

namespace {

constexpr std::string_view kSchema1Prefix = "application/vnd.docker.distribution.manifest.v1+";

constexpr std::array<std::string_view, 2> kConfigTypes = {"application/vnd.docker.container.image.v1+json",
                                                          "application/vnd.oci.image.config.v1+json"};
constexpr std::array<std::string_view, 11> kLayerTypes = {
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"};
// What servers of files say of any document.
constexpr std::array<std::string_view, 6> kTypesOfAnything = {
    "", "application/json", "text/json", "text/plain", "application/octet-stream", "binary/octet-stream"};

base::Result<MediaKind> document_kind(const base::Json& document, std::string_view announced, std::string& media_type);
base::Result<Manifest> read_manifest(const base::Json& document, std::string media_type);
base::Result<Index> read_index(const base::Json& document);
base::Result<Descriptor> read_descriptor(const base::Json& object);
std::string offered(const Index& index);

bool has(const base::Json& document, std::string_view key) {
  return document.find(key) != document.end();
}

base::Result<std::variant<Manifest, Index>> read_document(const base::Json& document, std::string_view announced) {
  std::string media_type;
  TRY(const MediaKind kind, document_kind(document, announced, media_type));
  if (kind == MediaKind::kIndex) {
    TRY(auto index, read_index(document));
    return std::variant<Manifest, Index>(std::move(index));
  }
  TRY(auto manifest, read_manifest(document, std::move(media_type)));
  return std::variant<Manifest, Index>(std::move(manifest));
}

}  // namespace

MediaKind media_kind(std::string_view media_type) {
  const auto in = [&](const auto& types) { return std::find(types.begin(), types.end(), media_type) != types.end(); };
  if (media_type == kOciIndexType || media_type == kDockerIndexType) return MediaKind::kIndex;
  if (media_type == kOciManifestType || media_type == kDockerManifestType) return MediaKind::kManifest;
  if (in(kConfigTypes)) return MediaKind::kConfig;
  if (in(kLayerTypes)) return MediaKind::kLayer;
  return MediaKind::kOther;
}

std::string strip_media_parameters(std::string_view content_type) {
  content_type = content_type.substr(0, content_type.find(';'));
  while (!content_type.empty() && content_type.back() == ' ') content_type.remove_suffix(1);
  while (!content_type.empty() && content_type.front() == ' ') content_type.remove_prefix(1);
  std::string out(content_type);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

std::string announced_type(std::string_view content_type) {
  std::string type = strip_media_parameters(content_type);
  const bool says_nothing = std::find(kTypesOfAnything.begin(), kTypesOfAnything.end(), type) != kTypesOfAnything.end();
  return says_nothing ? "" : type;
}

std::string media_type_in(std::string_view text) {
  base::JsonLimits limits;
  limits.bytes_max = kManifestBytesMax;
  const auto document = base::parse_json(text, "manifest", limits);
  if (!document || !document->is_object()) return "";
  const auto own = text_in(*document, "mediaType");
  if (own && !own->empty()) return *own;
  if (has(*document, "manifests")) return std::string(kOciIndexType);
  return has(*document, "config") ? std::string(kOciManifestType) : "";
}

base::Result<std::variant<Manifest, Index>> parse_manifest(std::string_view text, std::string_view media_type,
                                                           std::string_view what) {
  base::JsonLimits limits;
  limits.bytes_max = kManifestBytesMax;
  auto parsed = base::parse_json(text, what, limits);
  if (!parsed) return base::Error::invalid_argument(parsed.error().message);  // past a limit: no retry would help
  const base::Json& document = *parsed;
  if (!document.is_object()) return base::Error::invalid_argument(base::str(what, " is not a JSON object"));
  auto out = read_document(document, media_type);
  if (!out) return std::move(out).error().wrap(what);
  return out;
}

base::Result<std::vector<Descriptor>> candidates(const Index& index, const Platform& host, std::string_view what) {
  constexpr int kUnknownRank = 1 << 20;
  std::vector<std::pair<int, const Descriptor*>> ranked;
  for (const Descriptor& entry : index.manifests) {
    const MediaKind kind = media_kind(entry.media_type);
    const bool may_be_image = kind == MediaKind::kManifest || kind == MediaKind::kIndex || entry.media_type.empty();
    if (entry.is_attestation || !may_be_image) continue;
    if (!entry.platform) {
      ranked.emplace_back(kUnknownRank, &entry);
    } else if (const auto rank = fit(*entry.platform, host)) {
      ranked.emplace_back(*rank, &entry);
    }
  }
  if (ranked.empty()) {
    return base::Error::failed_precondition(
        base::str(what, " has no image for ", to_string(host), "; it offers ", offered(index)));
  }
  std::stable_sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<Descriptor> out;
  for (const auto& [rank, entry] : ranked) out.push_back(*entry);
  return out;
}

namespace {

// One document must not be valid as two kinds: whoever checks it as one could have it run as the other.
base::Status check_shape(const base::Json& document, MediaKind kind) {
  const auto refuse = [](std::string_view key, std::string_view name) {
    return base::Error::invalid_argument(base::str("it is ambiguous: \"", key, "\" in an image ", name));
  };
  if (kind == MediaKind::kManifest) {
    if (has(document, "manifests")) return refuse("manifests", "manifest");
    if (has(document, "fsLayers")) return refuse("fsLayers", "manifest");
  } else {
    for (const char* key : {"config", "layers", "fsLayers"}) {
      if (has(document, key)) return refuse(key, "index");
    }
  }
  return {};
}

base::Error schema_1() {
  return base::Error::failed_precondition(
      "it is a Docker schema 1 manifest, which is no longer supported: push the image again with a current tool");
}

base::Result<MediaKind> document_kind(const base::Json& document, std::string_view announced, std::string& media_type) {
  TRY(const std::string own, text_in(document, "mediaType"));
  media_type = own.empty() ? std::string(announced) : own;
  if (!own.empty() && !announced.empty() && own != announced) {
    return base::Error::invalid_argument(
        base::str("it says that it is \"", own, "\" but was announced as \"", announced, "\""));
  }
  TRY(const std::int64_t version, schema_version_in(document));
  if (version == 1 || media_type.starts_with(kSchema1Prefix)) return schema_1();
  if (version != 2) return base::Error::invalid_argument("its schemaVersion is not 2");

  MediaKind kind = media_kind(media_type);
  // OCI documents may leave their type out, and a digest alone announces none: then the shape tells.
  if (media_type.empty()) kind = has(document, "manifests") ? MediaKind::kIndex : MediaKind::kManifest;
  if (kind != MediaKind::kManifest && kind != MediaKind::kIndex) {
    return base::Error::failed_precondition(base::str("\"", media_type, "\" is not a container image"));
  }
  TRY_VOID(check_shape(document, kind));
  if (media_type.empty()) media_type = kind == MediaKind::kIndex ? kOciIndexType : kOciManifestType;
  return kind;
}

base::Status check_config_type(const Manifest& manifest, std::string_view artifact_type) {
  const std::string& type = manifest.config.media_type;
  const bool untold = is_untold_config_type(type) && artifact_type.empty();
  if (media_kind(type) == MediaKind::kConfig || untold) return {};
  return base::Error::failed_precondition(
      base::str("it is an artifact with a config of type \"", type, "\", not a container image"));
}

base::Status check_layer_type(const Descriptor& layer) {
  if (media_kind(layer.media_type) == MediaKind::kLayer || layer.media_type.empty()) return {};  // the bytes will tell
  const std::string_view why =
      layer.media_type.ends_with("+encrypted") ? "encrypted layers are not supported" : "that is not a layer type";
  return base::Error::failed_precondition(
      base::str("layer ", layer.digest.text(), " has type \"", layer.media_type, "\": ", why));
}

base::Result<Manifest> read_manifest(const base::Json& document, std::string media_type) {
  TRY(const base::Json* config, base::get_object(document, "config"));
  if (config == nullptr) return base::Error::invalid_argument("there is no \"config\"");
  TRY(auto config_descriptor, read_descriptor(*config));
  Manifest manifest{std::move(media_type), std::move(config_descriptor), {}};
  TRY(const std::string artifact_type, text_in(document, "artifactType"));
  TRY_VOID(check_config_type(manifest, artifact_type));
  if (manifest.config.size > kConfigBytesMax) {
    return base::Error::invalid_argument(
        base::str("the config has ", manifest.config.size, " bytes; at most ", kConfigBytesMax, " are accepted"));
  }
  TRY(const base::Json* layers, base::get_array(document, "layers"));
  if (layers == nullptr) return manifest;  // an image with nothing in it
  if (layers->size() > kLayersMax) {
    return base::Error::invalid_argument(
        base::str("the image has ", layers->size(), " layers; at most ", kLayersMax, " are supported"));
  }
  for (const base::Json& layer : *layers) {
    TRY(auto descriptor, read_descriptor(layer));
    TRY_VOID(check_layer_type(descriptor));
    manifest.layers.push_back(std::move(descriptor));
  }
  return manifest;
}

base::Result<Index> read_index(const base::Json& document) {
  TRY(const base::Json* manifests, base::get_array(document, "manifests"));
  if (manifests == nullptr) return base::Error::invalid_argument("there is no \"manifests\"");
  if (manifests->size() > kIndexEntriesMax) {
    return base::Error::invalid_argument(
        base::str("the index has ", manifests->size(), " entries; at most ", kIndexEntriesMax, " are supported"));
  }
  Index index;
  for (const base::Json& entry : *manifests) {
    auto descriptor = read_descriptor(entry);
    if (!descriptor && descriptor.error().code == base::Code::kUnimplemented) continue;  // others may be for us
    if (!descriptor) return std::move(descriptor).error();
    index.manifests.push_back(*std::move(descriptor));
  }
  return index;
}

base::Result<std::optional<Platform>> read_platform(const base::Json& object) {
  TRY(const base::Json* json, base::get_object(object, "platform"));
  if (json == nullptr) return std::optional<Platform>();
  TRY(auto platform, platform_in(*json));
  // Its own config says for what it is.
  if (platform.architecture.empty() && platform.os == "linux") return std::optional<Platform>();
  return std::optional<Platform>(std::move(platform));
}

base::Result<bool> read_is_attestation(const base::Json& object) {
  TRY(const base::Json* annotations, base::get_object(object, "annotations"));
  if (annotations == nullptr) return false;
  TRY(const auto type, base::get_string(*annotations, "vnd.docker.reference.type"));
  return type == "attestation-manifest";
}

base::Result<Descriptor> read_descriptor(const base::Json& object) {
  if (!object.is_object()) return base::Error::invalid_argument("a descriptor is not a JSON object");
  TRY(auto media_type, text_in(object, "mediaType"));
  TRY(const auto digest_text, base::get_string(object, "digest"));
  TRY(const auto size, base::get_int(object, "size"));
  if (!digest_text) return base::Error::invalid_argument("a descriptor has no digest");
  TRY(auto digest, Digest::parse(*digest_text));
  if (!size || *size <= 0 || static_cast<std::uint64_t>(*size) > kBlobBytesMax) {
    return base::Error::invalid_argument(base::str("the size of ", digest.text(), " is absent or out of range"));
  }
  Descriptor out{std::move(media_type), std::move(digest), static_cast<std::uint64_t>(*size), {}, false};
  TRY(out.platform, read_platform(object));
  TRY(out.is_attestation, read_is_attestation(object));
  // How build tools mark what must never be run, for readers that do not know the annotation.
  if (out.platform && out.platform->os == "unknown" && out.platform->architecture == "unknown") {
    out.is_attestation = true;
  }
  return out;
}

std::string offered(const Index& index) {
  constexpr std::size_t kShownMax = 20;
  std::set<std::string> platforms;
  for (const Descriptor& entry : index.manifests) {
    if (!entry.is_attestation && entry.platform) platforms.insert(to_string(*entry.platform));
  }
  if (platforms.empty()) return "none";
  std::string out;
  std::size_t shown = 0;
  for (const std::string& platform : platforms) {
    if (shown++ == kShownMax) return out + ", …";
    out += base::str(out.empty() ? "" : ", ", platform);
  }
  return out;
}

}  // namespace

}  // namespace oci
