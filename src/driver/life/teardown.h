// The only undo: for a failed start, DestroyTask, the reaper and the command line.
#pragma once

#include "base/context.h"
#include "base/result.h"
#include "driver/life/record.h"

namespace driver {

/// Removes everything a task ever had, by the names in its record: shim, container, mounts, cgroups, sockets, bundle,
/// writable layer, and last the record itself, so that whatever is interrupted is found and done again. Idempotent.
///   blocks  until done or ctx ends; pass Context::cleanup(), never the context that failed
///   errors  the first thing that could not be removed; the rest was still tried, and the record stays
base::Status teardown(const base::Context& ctx, const Record& record);

/// The same for a folder below <data_dir>/tasks whose record cannot be read: names are derived from the folder's.
base::Status teardown_garbage(const base::Context& ctx, const Roots& roots, const std::string& task_dir,
                              const shim::ShimOptions& options);

/// Empties <data_dir>/trash, where teardown moves what may be slow to remove.
base::Status empty_trash(const std::string& data_dir);

}  // namespace driver
