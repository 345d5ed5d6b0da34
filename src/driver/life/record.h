// What is known of a task, as it is remembered on disk: the names of all its resources, and the facts of its run.
//
// A record is written before the first side effect of a start (task_store.h), so that teardown needs nothing else. No
// name of it comes from the file: they follow from the container's id and the node's configuration. What only the file
// can know (the programs that the task was started with, its control group) is checked.
//
// threads  pure
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/process.h"
#include "base/result.h"
#include "driver/values/status.h"
#include "driver/values/task_spec.h"
#include "shim/shim.h"

namespace driver {

/// All names of a task's resources, derived from its id and the two root directories before anything is made.
struct TaskNames {
  std::string container_id;  ///< "<task name>-<16 hex of sha256(task id)>", at most 40 bytes of [a-z0-9-]
  std::string task_dir;      ///< <data_dir>/tasks/<container id>
  std::string upper_dir;
  std::string work_dir;
  std::string bundle_dir;   ///< <state_dir>/bundles/<container id>
  std::string rootfs_dir;   ///< <bundle_dir>/rootfs
  std::string netns;        ///< <state_dir>/netns/<container id>, if the driver makes it
  std::string etc_dir;      ///< <bundle_dir>/etc: hosts, hostname, resolv.conf
  std::string shim_socket;  ///< <state_dir>/s/<16 hex>
  std::string shim_cgroup;  ///< containerd-driver/shims/<container id>, below every hierarchy
  std::string
      cgroup_path;  ///< the container's own, as OCI cgroupsPath: Nomad's scope, else containerd-driver/containers/…

  /// The sources of its bind mounts, until the container is made (files/stage.h).
  std::string mounts_dir() const { return bundle_dir + "/mounts"; }
  /// The image's VOLUMEs (files/volumes.h), gone with task_dir.
  std::string volumes_dir() const { return task_dir + "/volumes"; }
  shim::ShimNames shim() const { return {container_id, bundle_dir, shim_socket, shim_cgroup}; }
};

struct Roots {
  std::string data_dir;
  std::string state_dir;
};

/// The last bytes of a container id: hash of the task id; before them the name of the task.
inline constexpr std::size_t kIdHashBytes = 16;

/// The container id alone, which depends on nothing but the task id.
std::string container_id_of(const TaskId& id);
TaskNames plan_names(const TaskSpec& spec, const Roots& roots);
/// The names of a container of which nothing but its id is known: as if the agent had sent no control group.
TaskNames names_of(const std::string& container_id, const Roots& roots);
/// Whether `name` can be a container id: 16 to 40 bytes of [a-z0-9-].
bool is_container_id(std::string_view name);

/// Where a task's image came from, for those who ask later.
struct ImageFacts {
  std::string resolved_digest;      ///< what the name led to: of an index, or the manifest's
  std::string platform;             ///< "linux/amd64"
  std::uint64_t size_bytes = 0;     ///< compressed
  std::int64_t pulled_at_unix = 0;  ///< 0 = unknown
  std::string verified;             ///< what the node's verifiers said of it, "" = nobody was asked
};

enum class Phase { kStarting, kRunning, kExited };

struct Record {
  static constexpr int kVersion = 2;

  TaskId id;
  std::string name;
  std::string alloc_id;
  std::string alloc_dir;
  TaskNames names;
  std::string boot_id;
  Phase phase = Phase::kStarting;
  bool from_command_line = false;
  bool remove_on_exit = false;
  base::ProcessId owner;  ///< the process that started it or recovered it last; none in older records

  // Known as the start goes on.
  std::string image_reference;
  std::string image_digest;
  ImageFacts image;
  std::vector<std::string> layer_dirs;  ///< what garbage collection must keep
  std::string stop_signal;              ///< the image's, "" if none
  std::string shim_binary;              ///< what it was started with and is ended with
  std::string runtime_binary;
  std::string state_dir;  ///< of its start: the configuration may have another one by now
  base::ProcessId shim;
  base::ProcessId init;
  std::optional<WallTime> started_at;
  std::optional<WallTime> exited_at;
  std::optional<ExitResult> exit;
  bool privileged = false;
  bool seccomp = false;
  std::map<std::string, std::string> labels;  ///< the job's

  shim::ShimOptions shim_options() const;
};

/// What a record may have on disk, when it is written and when it is read. A job's labels are the most of it.
inline constexpr std::size_t kRecordBytesMax = 1u << 20;

///   errors  kInvalidArgument: it would have more than kRecordBytesMax
base::Result<std::string> encode_record(const Record& record);

///   in      container_id of the folder that `text` was found in; roots as configured now
///   errors  kFailedPrecondition written by a newer version · kDataLoss damaged, or not a record of this container
base::Result<Record> decode_record(std::string_view text, const std::string& container_id, const Roots& roots);

}  // namespace driver
