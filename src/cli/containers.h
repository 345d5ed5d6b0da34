// All containers of the node as verbs see them, and whom of them a person means.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "cli/definition.h"
#include "driver/driver.h"

namespace cli {

/// A task that there is a record of, or a container of the command line that was defined and has none.
struct Container {
  driver::TaskStatus task;               ///< of a created one: its names and its image
  std::optional<Definition> definition;  ///< of the command line's own
  bool is_created = false;               ///< it has not run yet, or could not be started
};

/// Those of the driver's node, oldest first.
///   errors  by errno: they cannot be listed
base::Result<std::vector<Container>> list_containers(driver::Driver& driver);

/// A container of Nomad's is called TASK-ALLOCATION, as with Nomad's other drivers. Pure.
std::string name_of(const Container& container);
/// "created", "starting", "running", "paused", "exited", or "unreadable". Pure.
std::string state_of(const Container& container);
/// When it was made, as far as that is known. Pure.
std::optional<driver::WallTime> created_at(const Container& container);

/// Whom a person means: a name, a container ID in its long form or Nomad's, a task's ID, an allocation,
/// ALLOCATION/TASK, or the beginning of one of them (not of a name) if only one container begins so. Pure.
///   errors  kNotFound · kInvalidArgument several begin so
base::Result<Container> find_container(const std::vector<Container>& all, const std::string& wanted);
/// All that find_container would have to choose from.
std::vector<Container> containers_named(const std::vector<Container>& all, const std::string& wanted);

/// How a task ends that is known to the driver; at once if it has.
///   errors  kNotFound · kDeadlineExceeded, kCancelled
base::Result<driver::ExitResult> wait_for_exit(const base::Context& ctx, driver::Driver& driver,
                                               const driver::TaskId& id);

/// Its root file system as the host has it mounted: without what is mounted inside, running or not.
///   errors  kFailedPrecondition it is not mounted: the container has not run since the host was started
base::Result<base::Fd> open_rootfs(const driver::PluginOptions& options, const Container& container);
/// Where that is. Pure.
std::string rootfs_path(const driver::PluginOptions& options, const Container& container);

/// `otherwise` if it has none.
std::string attribute(const driver::TaskStatus& task, const std::string& key, const std::string& otherwise = "");
std::string container_id_of(const driver::TaskStatus& task);

}  // namespace cli
