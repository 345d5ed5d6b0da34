// The writable root file system of one task: an overlay of the image's layers.
// spec: kernel Documentation/filesystems/overlayfs.rst
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace oci {

struct OverlayNames {
  std::vector<std::string> layer_dirs;  ///< bottom first; the last two names of each lead through no symlink
  std::string upper_dir;                ///< created here; same file system as work_dir, whose content is ours alone
  std::string work_dir;
  std::string target;  ///< existing directory
};

/// Mounts it. Idempotent: an overlay that is already on target is left alone. The new root takes mode, owner and xattrs
/// of the top-most layer's root that has one. Uses the new mount API (lowerdir+, no limit on option length, at most 500
/// layers) where the kernel has it, else mount(2) through descriptors.
///   errors  kNotFound a layer is missing · ELOOP it is a symlink · kResourceExhausted too many layers ·
///   kFailedPrecondition the file system below cannot hold an upper layer
base::Status mount_overlay(const OverlayNames& names);

/// Unmounts whatever is on `target` (MNT_DETACH, until nothing is); absent or not mounted is OK.
base::Status unmount_all(const std::string& target);

}  // namespace oci
