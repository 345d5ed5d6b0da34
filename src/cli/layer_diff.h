// What a container has changed of its image, by its writable layer.
// spec: kernel Documentation/filesystems/overlayfs.rst "whiteouts and opaque directories"
#pragma once

#include <string>
#include <vector>

#include "base/context.h"
#include "base/fd.h"
#include "base/result.h"

namespace cli {

/// What became of a path: podman's and docker's letters.
enum class ChangeKind : char { kAdded = 'A', kChanged = 'C', kDeleted = 'D' };

struct LayerChange {
  ChangeKind kind;
  std::string path;  ///< from the root: "/etc/hosts"; anybody's
};

/// Compares the writable layer `upper` with the layers below it, by names: what was copied up counts as changed,
/// whatever its content. A container may write meanwhile; no link is followed.
///   in      upper: readable · layers: bottom first
///   out     by path; of a folder that was deleted only itself
///   blocks  on local files, until ctx ends
///   errors  by errno · kResourceExhausted more than a million changes · kInvalidArgument more than 500 folders deep
base::Result<std::vector<LayerChange>> layer_changes(const base::Context& ctx, const base::Fd& upper,
                                                     const std::vector<base::Fd>& layers);

}  // namespace cli
