// ExecTask: one command inside a running task, to its end, with the first bytes of what it said.
#pragma once

#include <string>
#include <vector>

#include "base/context.h"
#include "base/result.h"
#include "driver/driver.h"
#include "driver/task.h"

namespace driver {

/// Runs `command` with the task's own user, environment, directory, limits and capabilities.
///   blocks  until it exits or ctx ends; then it is killed
///   errors  kInvalidArgument empty command · kFailedPrecondition the task does not run · kDeadlineExceeded
///           a command that cannot be run is a result: exit code 127 or 126 and the reason on stderr
base::Result<ExecOutput> exec_in_task(const base::Context& ctx, Task& task, const std::vector<std::string>& command);

}  // namespace driver
