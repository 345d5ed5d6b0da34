// What the stages of sandbox.h see of the file system. Built from clones of mounts (open_tree, mount_setattr: kernel
// 5.12), each with its own flags, and entered with pivot_root; what is not shown cannot be named.
#pragma once

#include "base/fd.h"
#include "base/result.h"
#include "oci/fetch/sandbox/sandbox.h"

namespace oci::fetch {

/// Before the mount namespace: puts a read-only view of the file or folder behind `fd` in its place, from which ".."
/// leads nowhere, and which cannot be opened for writing through /proc/self/fd. A pipe is left alone.
///   errors  kInvalidArgument a device
base::Status prepare_archive(int fd);

/// After unshare(CLONE_NEWNS). An empty root with the few files and folders of the host that resolvers and TLS read,
/// and what the view needs, all read-only; data_dir, writable, in which all is covered that is not the store's; the
/// process's own descriptors in /proc/self/fd.
///   out     data_dir again, on a read-only mount
///   errors  kFailedPrecondition data_dir/tasks is a link
base::Result<base::Fd> enter_fetch_root(const FetchView& view);

/// After unshare(CLONE_NEWNS). An empty root with kStagingView, kLayersView and /proc/self/fd. In the first two the
/// kernel follows no symlinks, where it can be told so (5.10).
///   errors  those of openat2: a name that leads through a link, or is not a folder
base::Status enter_unpack_root(const UnpackView& view);

}  // namespace oci::fetch
