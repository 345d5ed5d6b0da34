// Images of the store as an archive that others read: the way back of fetch/import_archive.h.
//
// format  an OCI image layout with the blobs as they were pulled, so that every digest holds; as Docker's archive it
// has
//         manifest.json beside that, whose config and layers are the layout's blobs. Docker itself writes both in one
//         since its version 25. Layers stay compressed: all who read such archives unpack them.
// spec    image-spec image-layout.md; POSIX pax for sizes that a tar header has no room for
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/context.h"
#include "base/result.h"
#include "oci/digest.h"
#include "oci/manifest.h"
#include "oci/store.h"

namespace oci {

enum class ArchiveFormat { kDocker, kOci };

/// Takes an archive's files, one after the other.
class ArchiveSink {
 public:
  virtual ~ArchiveSink() = default;
  /// `path` is one of the layout: "index.json", "blobs/sha256/…". `size` bytes follow in pieces, then finish_file().
  virtual base::Status begin_file(const std::string& path, std::uint64_t size) = 0;
  virtual base::Status write(std::string_view piece) = 0;
  virtual base::Status finish_file() = 0;
};

/// A tar behind a descriptor, which is borrowed. finish() writes its end.
class TarSink : public ArchiveSink {
 public:
  TarSink(const base::Context& ctx, int fd) : ctx_(ctx), fd_(fd) {}
  base::Status begin_file(const std::string& path, std::uint64_t size) override;
  base::Status write(std::string_view piece) override;
  base::Status finish_file() override;
  base::Status finish();

 private:
  const base::Context& ctx_;
  const int fd_;
  std::uint64_t size_ = 0;  // of the file
};

/// A folder behind a descriptor, which is borrowed: it is empty, and nobody else writes into it. finish() makes what is
/// in it durable.
class FolderSink : public ArchiveSink {
 public:
  FolderSink(const base::Context& ctx, int folder) : ctx_(ctx), folder_(folder) {}
  base::Status begin_file(const std::string& path, std::uint64_t size) override;
  base::Status write(std::string_view piece) override;
  base::Status finish_file() override;
  base::Status finish();

 private:
  const base::Context& ctx_;
  const int folder_;
  base::Fd file_;
};

/// Writes the images of these names, all that they have in common once. What it needs stays in the store meanwhile.
///   in      references  canonical
///   blocks  disk, and whoever takes the archive, until ctx ends
///   errors  kNotFound no such image, or a layer is here unpacked only · kDataLoss a blob is not what its name says:
///   the
///           archive is not whole then · kInvalidArgument past a limit · the sink's
base::Status save_images(const base::Context& ctx, Store& store, const std::vector<std::string>& references,
                         ArchiveFormat format, ArchiveSink& sink);

// ---- the pure part ----------------------------------------------------------------------------------------------

struct SavedImage {
  ImageRecord record;
  Manifest manifest;
};
/// index.json of the layout.
std::string saved_index(const std::vector<SavedImage>& images);
/// Docker's manifest.json: names of one image are its tags, those by digest are none.
std::string saved_docker_manifest(const std::vector<SavedImage>& images);

}  // namespace oci
