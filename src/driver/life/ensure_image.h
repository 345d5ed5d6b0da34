// Which image a task gets, and what its user is told meanwhile.
#pragma once

#include "base/context.h"
#include "base/result.h"
#include "driver/life/record.h"
#include "driver/life/start_task.h"
#include "oci/image.h"

namespace driver {

/// The task's image, complete in the store, fetched if its pull policy wants that. Emits task events: what is used or
/// fetched, progress after 15 s, 60 s and then every 5 min, and a summary. On success `record` names the image and its
/// layers, also on disk, so that collection keeps them.
///   blocks  network and disk, until image_pull_timeout
///   errors  as oci::Images::ensure and find_image_verifier · kNotFound policy "never" and no such image here
base::Result<oci::Image> ensure_image(const base::Context& ctx, const StartDeps& deps, const TaskSpec& spec,
                                      Record& record);

/// The registry is asked although the image is here: what `policy` means for this reference.
bool asks_registry(PullPolicy policy, const std::string& reference);

/// When progress is told, counted from the beginning of a pull: the n-th time, from 0.
std::chrono::seconds progress_time(unsigned n);
/// "12.3/54.0 MB, 3/7 layers, 8.1 MB/s"
std::string show_progress(const oci::PullProgress& progress, std::chrono::duration<double> elapsed);

}  // namespace driver
