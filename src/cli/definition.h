// What a container of the command line was made from: kept for `start`, `inspect` and `ps` for as long as it is there,
// running or not.
//
// disk     <data_dir>/tasks/.containers/<container id>/definition.json; its log (log_file.h) lies beside it. Among the
//          tasks, for the image helper never sees them.
// crash    Written before the container is made, removed after it is gone: `rm` finds whatever was left between.
// threads  any
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/run_spec.h"
#include "driver/values/status.h"

namespace cli {

struct Definition {
  std::string task_id;                         ///< "cli/NAME/HASH"
  std::string container_id;                    ///< what driver::container_id_of makes of it
  std::string name;                            ///< nobody else has it: what --name said, or one of our own
  std::vector<std::string> args;               ///< of `run` or `create`: flags, image, command
  std::string cwd;                             ///< where relative sources of mounts start from
  std::map<std::string, std::string> env;      ///< as it was with the caller's values
  std::string image;                           ///< canonical name of what it was made from; "" = an archive
  std::string image_digest;                    ///< of its manifest
  std::map<std::string, std::string> updates;  ///< limits that `update` has changed since: "memory" → "1g"
  driver::WallTime created_at;
  bool transient = false;  ///< goes with the command that runs it: without a task it is nothing
};

/// 64 hexadecimal digits that `run -d` prints and every verb takes; a container of Nomad's has one, too. Pure.
std::string long_id(const std::string& container_id);

/// "[a-zA-Z0-9][a-zA-Z0-9_.-]*", up to 128 bytes.
///   errors  kInvalidArgument
base::Status check_name(const std::string& name);

/// The folder of a container's definition and log.
std::string definition_dir(const std::string& data_dir, const std::string& container_id);

///   errors  by errno · kResourceExhausted: more than 1 MiB of arguments
base::Status write_definition(const std::string& data_dir, const Definition& definition);
///   errors  kNotFound · by errno · kDataLoss not one of ours
base::Result<Definition> read_definition(const std::string& data_dir, const std::string& container_id);
/// All that can be read, by container id.
///   errors  by errno; missing: there are none
base::Result<std::vector<Definition>> list_definitions(const std::string& data_dir);
/// With the log. Absent = OK.
base::Status remove_definition(const std::string& data_dir, const std::string& container_id);

/// The call that it was made by; the task's id, name and variables are the definition's.
///   errors  as make_task_spec
base::Result<RunRequest> run_of(const Definition& definition);

}  // namespace cli
