// The system calls that the stages of sandbox.h may make. Everything else fails with ENOSYS, as on an older kernel:
// libraries have a way around that, so that a new version of one of them costs a feature and not a pull.
#pragma once

#include "base/result.h"

namespace oci::fetch {

enum class Stage { kFetch, kUnpack };

/// For the calling thread and all that it starts, for good.
///   errors  kFailedPrecondition the kernel has no seccomp filters
base::Status load_filter(Stage stage);

}  // namespace oci::fetch
