// Looking at a mounted root file system before the runtime does. runc and crun have often been led outside of it by
// images whose /proc, /dev or working directory is a link (CVE-2019-19921, CVE-2024-21626, CVE-2025-31133 and kin), and
// the runtime on the host may be older than its fix.
#pragma once

#include <string>

#include "base/result.h"

namespace driver {

/// Refuses a root in which the runtime's mounts could land elsewhere: /dev, /proc, /sys, /etc must be real directories
/// if present; /dev/null, /dev/console, /dev/pts and the like must not be links.
///   errors  kInvalidArgument naming the path and what it is
base::Status check_rootfs(int rootfs_fd);

/// Refuses a working directory that leads, through links in the image, into /proc, or that is not a directory. A
/// missing one is fine: the runtime makes it.
///   errors  kInvalidArgument naming `cwd`
base::Status check_cwd(int rootfs_fd, const std::string& cwd);

/// `path` inside the root with every link followed as if the root were "/", whether or not the end exists: an absolute
/// path without "." and "..". kInvalidArgument after 40 links.
base::Result<std::string> resolve_path_in_root(int rootfs_fd, const std::string& path);

}  // namespace driver
