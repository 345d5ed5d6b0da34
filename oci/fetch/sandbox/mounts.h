// What the stages of sandbox.h see of the file system. Built from clones of mounts (open_tree, mount_setattr: kernel
// 5.12), each with its own flags, and entered with pivot_root; what is not shown cannot be named.
#pragma once

#include "base/result.h"
#include "oci/fetch/sandbox/sandbox.h"

namespace oci::fetch {

/// Before the mount namespace: puts a read-only view of the folder behind `fd` in its place, from which ".." leads
/// nowhere. A descriptor that is no folder, and -1, are left alone.
base::Status prepare_folder(int fd);

/// After unshare(CLONE_NEWNS). The host's root, /etc, /usr, /run, /var and what the view needs, read-only; data_dir,
/// writable; the process's own descriptors in /proc/self/fd.
base::Status enter_fetch_root(const FetchView& view);

/// After unshare(CLONE_NEWNS). An empty root with kStagingView, kLayersView and /proc/self/fd. In the first two the
/// kernel follows no symlinks, where it can be told so (5.10).
base::Status enter_unpack_root(const UnpackView& view);

}  // namespace oci::fetch
