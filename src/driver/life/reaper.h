// Finds what nobody will ask for again: tasks whose start was cut, whose agent forgot them, whose host was rebooted.
#pragma once

#include <functional>
#include <set>
#include <string>

#include "base/context.h"
#include "driver/life/fingerprint.h"
#include "driver/life/record.h"
#include "driver/values/options.h"

namespace driver {

/// Why a record that no live task stands for may go; "" = it must stay. Pure but for a look at two paths and a process.
///   uptime  how long this process has been looking: an agent that restarts recovers its tasks in this time
std::string orphan_reason(const Record& record, std::chrono::seconds uptime);

/// One pass over <data_dir>/tasks: tears down every orphan that `is_known` does not know. Also empties the trash.
void reap_orphans(const base::Context& ctx, const Roots& roots, const shim::ShimOptions& shim_options,
                  std::chrono::seconds uptime, const std::function<bool(const TaskId&)>& is_known);

}  // namespace driver
