// Images from a file instead of a registry: what `docker save`, `podman save` and `skopeo copy … oci-archive:` write.
// The blobs go into the store; what unpacks them then is the same as for a pull.
//
// format  a tar, plain or compressed with gzip, zstd, xz or bzip2, or a folder. With index.json and oci-layout it is an
// OCI image layout, else
//         with manifest.json what docker has always written: a config, and layers as plain tars under any name.
// trust   names in it are only looked up in a map, never opened; every blob gets the name of its own digest.
// spec    image-spec image-layout.md
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/context.h"
#include "base/result.h"
#include "oci/digest.h"
#include "oci/hold.h"
#include "oci/platform.h"
#include "oci/store.h"

namespace oci::fetch {

constexpr std::size_t kArchiveEntriesMax = 10'000;          ///< files, links and folders
constexpr std::size_t kArchiveImagesMax = 100;              ///< images in one archive
constexpr std::size_t kArchiveDocumentBytesMax = 4u << 20;  ///< manifest.json, index.json, a config
constexpr std::uint64_t kArchiveBytesMax = 64ull << 30;     ///< of all files
/// Files that are no larger than this wait in memory, as long as all of them together have room there: an archive of
/// nothing but small files is refused before the disk has seen them.
constexpr std::size_t kArchiveSmallBytesMax = 64u << 10;
constexpr std::size_t kArchiveMemoryBytesMax = 64u << 20;

/// An image whose blobs are in the store now: an index or a manifest, to go on with as after asking a registry.
struct ArchivedImage {
  std::string name;  ///< as the archive calls it: "redis:7", a full reference, or "" if it has no name
  Digest digest;
  std::string media_type;
  std::string document;                   ///< the bytes of the digest
  bool only_tag = false;                  ///< the name is a tag in a layout, and names no repository
  std::optional<Platform> platform = {};  ///< of the layout's entry
  bool is_attestation = false;            ///< says something about an image
  /// Why it is none that can be stored: then nothing else is known of it but, at best, its name.
  std::optional<base::Error> problem = {};
};

/// Reads the archive from `fd` (a file, a pipe, or the folder of an OCI layout), once and in order. `hold` gets its
/// blobs. Entries that are no images, or not whole, have a problem; those that are, are there.
///   disk    a Staging folder while it is read; complete blobs afterwards, durable once their folder is synced
///   errors  kInvalidArgument not an image archive, damaged, past a limit · kDataLoss a blob is not what its name says
///   ·
///           kResourceExhausted disk full. Nothing of it is left in ingest/ then.
base::Result<std::vector<ArchivedImage>> import_archive(const base::Context& ctx, const Store& store, Hold& hold,
                                                        int fd);

// ---- the pure part ----------------------------------------------------------------------------------------------

/// A file of the archive.
struct ArchivedFile {
  Digest digest;
  std::uint64_t size = 0;
  bool gzip = false;     ///< by its first bytes
  std::string document;  ///< its bytes, if it is small enough to be one
};

/// manifest.json as a list of OCI manifests. `find` gives a file by its path in the archive, links followed, or null.
using FindFile = std::function<const ArchivedFile*(const std::string& path)>;
base::Result<std::vector<ArchivedImage>> images_of_docker_manifest(std::string_view manifest_json,
                                                                   const FindFile& find);
/// index.json's entries.
base::Result<std::vector<ArchivedImage>> images_of_index(std::string_view index_json, const FindFile& find);

/// "./a//b/../c" → "a/c": a path in an archive, as a key. "" if it leads out.
std::string archive_key(std::string_view path);

}  // namespace oci::fetch
