// A task's record on disk: the truth about what exists for it. It is written (atomic rename) before the first side
// effect and holds every name that the start will use, so that teardown needs nothing else.
//
// disk     <data_dir>/tasks/<container id>/record.json (docs/state.md); upper/ and work/ of its overlay lie beside it.
// crash    Not fsynced: a killed process loses nothing that was written, and after a power cut everything that a record
//          speaks of is gone but the folder it lies in. A folder whose record cannot be read is garbage.
// threads  plain functions; writers of one record are serialised by its Task.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/process.h"
#include "base/result.h"
#include "driver/values/status.h"
#include "driver/values/task_spec.h"
#include "oci/gc.h"
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
  static constexpr int kVersion = 1;

  TaskId id;
  std::string name;
  std::string alloc_id;
  std::string alloc_dir;
  TaskNames names;
  std::string boot_id;
  Phase phase = Phase::kStarting;
  bool from_command_line = false;
  bool remove_on_exit = false;
  base::ProcessId owner;  ///< the process that started it (command line only)

  // Known as the start goes on.
  std::string image_reference;
  std::string image_digest;
  ImageFacts image;
  std::vector<std::string> layer_dirs;  ///< what garbage collection must keep
  std::string stop_signal;              ///< the image's, "" if none
  std::string shim_binary;
  std::string runtime_binary;
  std::string runtime_root;
  std::string events_socket;
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

base::Status write_record(const Record& record);
/// kNotFound: no such record · kDataLoss: unreadable (garbage folder) · kFailedPrecondition: written by a newer
/// version, which is left alone.
base::Result<Record> read_record(const std::string& task_dir);
/// The folders below <data_dir>/tasks, full paths; empty if there is none.
std::vector<std::string> list_task_dirs(const std::string& data_dir);

/// What the tasks of this data_dir run on, by their records: those of this process, of another plugin, of the command
/// line. What a record that cannot be read needs is unknown.
oci::GcUses images_in_use(const std::string& data_dir);

}  // namespace driver
