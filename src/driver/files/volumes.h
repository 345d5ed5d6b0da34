// The VOLUMEs of an image: folders that its author wants outside of the container's root file system. Each is a folder
// of the task's own beside its writable layer, with what the image has at that place, as Docker makes it; it can be
// written to even if the root cannot, and goes with the task.
//
// disk      <data_dir>/tasks/<container id>/volumes/<number>, removed with the task's folder
// spec      image-spec config.md "Volumes"
#pragma once

#include <string>
#include <vector>

#include "base/context.h"
#include "base/result.h"
#include "driver/files/mounts.h"

namespace driver {

constexpr std::size_t kImageVolumesMax = 64;

/// Where the volumes of an image are mounted: normalised, parents first, each once. Left out is what the task mounts
/// something else at or above (it has its storage there), and what lies in /proc, /sys or /dev. Pure.
///   errors  kInvalidArgument: more than kImageVolumesMax, or "/"
base::Result<std::vector<std::string>> image_volume_targets(const std::vector<std::string>& volumes,
                                                            const std::vector<Mount>& mounts);

/// Makes the folders of `targets` below `dir`, filled with copies of what the root has there, and returns `mounts` with
/// theirs, parents before children.
///   in      rootfs_fd: the mounted root; links in it are followed as if it were "/"
///   blocks  while content is copied, until ctx ends
///   errors  kInvalidArgument naming the volume: a file is there · kResourceExhausted: the disk is full · by errno
base::Result<std::vector<Mount>> add_image_volumes(const base::Context& ctx, int rootfs_fd,
                                                   const std::vector<std::string>& targets, const std::string& dir,
                                                   std::vector<Mount> mounts);

}  // namespace driver
