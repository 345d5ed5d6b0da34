// The only undo: for a failed start, DestroyTask, the reaper and the command line.
#pragma once

#include <string>

#include "base/context.h"
#include "base/result.h"
#include "driver/host/programs.h"
#include "driver/life/record.h"
#include "driver/life/task_store.h"

namespace driver {

/// Removes everything a task ever had, by the names in its record: shim, container, mounts, cgroups, sockets, bundle,
/// writable layer, and last the record itself, so that whatever is interrupted is found and done again. One list, in
/// the order of a start, is run backwards, and again while something of it fails. Idempotent.
///   blocks  until done or ctx ends; pass Context::cleanup(), never the context that failed
///   errors  the first thing that could not be removed at the last try; the rest was still tried, and bundle and record
///           stay for the next one
base::Status teardown(const base::Context& ctx, const TaskStore& store, const Record& record);

/// The same for a task whose record cannot be read, by what follows from its id, with the node's programs. Only when a
/// person asks for it.
base::Status teardown_unreadable(const base::Context& ctx, const TaskStore& store, const std::string& container_id,
                                 const Programs& programs);

}  // namespace driver
