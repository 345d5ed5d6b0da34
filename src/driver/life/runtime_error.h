// What runc and crun say when a container cannot be made, in the words of the one who wrote the job.
#pragma once

#include "base/result.h"

namespace driver {

/// Pure. Strips the runtime's layers of "failed to" and keeps the cause; sets the code that says whose fault it is:
///   kInvalidArgument     the job's (command not found, not executable, no such directory): never retried
///   kResourceExhausted   the host's for now (EAGAIN, ENOSPC, ENOMEM): worth a retry
///   kUnavailable         the runtime or the container's first process was killed on the way: worth a retry
/// An error that is not the runtime's comes back unchanged.
base::Error translate_runtime_error(base::Error error);

/// The exit code that a shell gives a command that cannot be run: 127 not found, 126 not executable, 0 = something
/// else.
int exit_code_of_runtime_error(const base::Error& error);

}  // namespace driver
