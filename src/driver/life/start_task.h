// StartTask from image to running process: the page to read first.
#pragma once

#include <functional>
#include <memory>

#include "base/context.h"
#include "base/crew.h"
#include "base/loop.h"
#include "driver/life/news.h"
#include "driver/life/record.h"
#include "driver/life/task.h"
#include "driver/life/turns.h"
#include "driver/spec/security.h"
#include "driver/values/options.h"
#include "oci/images.h"

namespace driver {

/// What a start needs from the driver; references outlive the call.
struct StartDeps {
  base::Loop& loop;
  base::Crew& background;  ///< what follows a task's exit
  base::Hub<TaskEvent>& events;
  oci::Images& images;
  const PluginOptions& options;
  const HostFacts& host;
  const NodeInfo& node;
  News& news;
  Turns& turns;
  std::function<void(const TaskSpec&, std::string message, std::map<std::string, std::string> annotations)> emit_event;
};

/// Makes the container and starts it. `record` is on disk already and is kept up to date there. On error everything
/// that was made is still there: the caller runs teardown(record).
///   blocks  for the pull (image_pull_timeout) and the start
///   errors  as Driver::start
base::Result<std::shared_ptr<Task>> start_task(const base::Context& ctx, const StartDeps& deps, const TaskSpec& spec,
                                               Record& record);

}  // namespace driver
