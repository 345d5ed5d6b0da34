// What options of a task's process come to on a node.
#pragma once

#include <cstdint>

#include "base/result.h"

namespace driver {

/// The limit of a task that asks for `of_task` (0 = nothing, -1 = none) on a node with `of_node` (0 = none) as default
/// and most: a number of processes, 0 = no limit. Pure.
///   errors  kPermissionDenied when it asks for more than the node allows
base::Result<std::int64_t> effective_pids_limit(std::int64_t of_task, std::int64_t of_node);

}  // namespace driver
