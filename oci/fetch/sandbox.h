// What the helper gives up before it looks at the first byte from outside. Tightened here, nowhere else.
#pragma once

#include "base/result.h"

namespace oci::fetch {

/// Called once, first thing in main, while there is one thread: no new privileges by exec, no core dumps and no ptrace
/// by others (credentials are in memory), death with the parent, and a umask that lets layers have their modes.
base::Status enter_sandbox();

}  // namespace oci::fetch
