// The writable layer of a container that is started again: kept aside while its earlier run is undone.
//
// disk     <TaskSpec::kept_dir>/upper and /volumes, on the file system of the task's own folder
// crash    A rename each. What was kept by a start that was cut off is found by the next one.
#pragma once

#include <string>

#include "base/result.h"
#include "driver/life/record.h"

namespace driver {

/// Moves what there is of a run's writable layer to `kept_dir`, mounted or not. "" = nothing to do.
///   errors  by errno; what is there already is not replaced
base::Status keep_layer(const std::string& kept_dir, const TaskNames& names);

/// Moves it to a task that has none yet. False: nothing was kept.
base::Result<bool> take_back_layer(const std::string& kept_dir, const TaskNames& names);

}  // namespace driver
