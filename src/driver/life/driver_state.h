// What the agent keeps for us in a task's handle and hands back to RecoverTask. The record on disk is the truth; this
// says why there may be none.
#pragma once

#include <string>

#include "base/result.h"
#include "driver/life/record.h"

namespace driver {

/// One line of JSON: {"driver":"containerd-driver","version":1,"container_id":…,"boot_id":…}. No secrets: the agent
/// stores it in the clear.
std::string encode_driver_state(const Record& record);

/// Why the task of this handle cannot be recovered although its record is gone: the host was rebooted, or another
/// driver or a newer version wrote the handle, or it is damaged, or the record was removed.
///   in      driver_state as the agent sent it; anything
base::Error explain_missing_record(const TaskId& id, const std::string& driver_state);

}  // namespace driver
