// Fits an unpacked layer onto the layers below it: what unpack.h had to leave open, once they are known.
//
//   hard links      to a lower layer's file: the file is copied up under its own name, then linked
//   whiteouts       become overlay's 0:0 devices where a lower layer has the name, and nothing elsewhere: overlay lists
//                   a whiteout in a directory that only one layer has, though it cannot be opened
//   opaque          a whiteout for each name that lower layers show in the directory and this layer has not. Overlay
//                   has an attribute for it, but only CAP_SYS_ADMIN may set that, with which much else could be done;
//                   this one also works on file systems without such attributes
//   implicit dirs   take mode, owner, times and attributes of the lower layers' directory, which they would hide
//
// spec: image-spec layer.md; kernel Documentation/filesystems/overlayfs.rst
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/context.h"
#include "base/fd.h"
#include "base/result.h"
#include "oci/fetch/unpack/rootfs.h"
#include "oci/fetch/unpack/unpack.h"

namespace oci::fetch {

/// Several settled layers as overlay shows them, without mounting anything. Symlinks are not followed.
class LowerView {
 public:
  /// Puts a settled layer on top.
  base::Status add(const std::string& layer_dir);
  bool empty() const { return roots_.empty(); }

  /// An O_PATH descriptor of what is visible under the clean path, or nullopt.
  base::Result<std::optional<base::Fd>> find(const std::string& path) const;
  bool has(const std::string& path) const;
  bool has_dir(const std::string& path) const;
  /// The names visible in the directory; none if there is no such directory.
  base::Result<std::vector<std::string>> names(const std::string& path) const;

 private:
  base::Result<std::vector<base::Fd>> find_all(const std::string& path) const;
  std::vector<base::Fd> roots_;  // bottom first
};

/// Does all of the above, then sets the directories' times.
///   errors  kDataLoss a hard link to nothing · kResourceExhausted disk full
base::Status settle_layer(const base::Context& ctx, Rootfs& rootfs, const LayerTodo& todo, const LowerView& lower);

}  // namespace oci::fetch
