// One layer's tar stream into one directory, as overlay wants a layer to look, but for what needs to know the layers
// below: that is left in a LayerTodo for settle.h. So layers can be unpacked in any order, and at once.
// spec: image-spec layer.md "Applying Changesets"; tar by libarchive (ustar, GNU, pax, sparse)
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/context.h"
#include "base/result.h"
#include "oci/fetch/unpack/rootfs.h"
#include "oci/fetch/unpack/tar_headers.h"

namespace oci::fetch {

constexpr std::uint64_t kImageEntriesMax = 4'000'000;
constexpr std::uint64_t kImageBytesMax = 64ull << 30;

/// What all layers of an image may be together. threads: any
class ImageBudget {
 public:
  explicit ImageBudget(std::uint64_t entries_max = kImageEntriesMax, std::uint64_t bytes_max = kImageBytesMax)
      : entries_max_(entries_max), bytes_max_(bytes_max) {}
  /// kInvalidArgument past either.
  base::Status take(std::uint64_t entries, std::uint64_t bytes);

 private:
  const std::uint64_t entries_max_;
  const std::uint64_t bytes_max_;
  std::atomic<std::uint64_t> entries_{0};
  std::atomic<std::uint64_t> bytes_{0};
};

/// Of one layer.
struct UnpackLimits {
  std::uint64_t entries_max = 2'000'000;
  std::uint64_t bytes_max = 32ull << 30;         ///< of the tar stream, and of what it claims to hold (sparse files)
  std::size_t remembered_bytes_max = 24u << 20;  ///< paths kept for the end: directories, whiteouts, links
  ImageBudget* image = nullptr;                  ///< shared with the image's other layers
};

/// What can only be done when the layers below are known. Paths are clean but not resolved: "a/b".
struct LayerTodo {
  struct Link {
    std::string path;
    std::string target;
    Attributes attributes;  ///< of the file, from then on: the last entry counts
  };
  std::vector<std::string> whiteouts;    ///< what lower layers have under this name is gone
  std::vector<std::string> opaque_dirs;  ///< so is all that they have in this directory ("" = the root)
  std::vector<Link> links;               ///< hard links to files that this layer does not have
};

/// Unpacks into `rootfs` (empty, or left by nobody else) up to the end of the stream, which may be behind the end of
/// the archive: every byte is taken from `read`, so that it can be hashed there.
///   errors  kDataLoss not a tar, cut off · kInvalidArgument a path, name or attribute that is refused, a limit ·
///           kResourceExhausted disk full · those of `read`. What was unpacked until then stays for the caller to
///           remove.
base::Result<LayerTodo> unpack_layer(const base::Context& ctx, const ReadTar& read, Rootfs& rootfs,
                                     const UnpackLimits& limits);

/// "a/.wh.b": what a name in a layer means. Pure.
enum class NameKind { kPlain, kWhiteout, kOpaque, kReserved, kInvalid };
NameKind name_kind(std::string_view name);

}  // namespace oci::fetch
