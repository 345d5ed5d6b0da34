// How a task and a node are, and what an operator is told: what the verbs of driver.h give back.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>

#include "driver/values/task_spec.h"

namespace driver {

using WallTime = std::chrono::system_clock::time_point;

struct ExitResult {
  int exit_code = 0;  ///< 128 + signal if killed by one
  int signal = 0;
  bool oom_killed = false;
  std::string error;  ///< non-empty: the exit is unknown or abnormal, in words; never with exit_code 0
};

/// kUnreadable: there is a record of it that cannot be read, so that it may be running.
enum class TaskState { kUnknown, kRunning, kExited, kUnreadable };

struct TaskStatus {
  TaskId id;
  std::string name;
  TaskState state = TaskState::kUnknown;
  std::optional<WallTime> started_at;
  std::optional<WallTime> completed_at;
  std::optional<ExitResult> exit;
  std::map<std::string, std::string> attributes;  ///< image digest, runtime, cgroup, shim pid, …
};

/// The network namespace of a group.
struct GroupNetwork {
  std::string path;
  bool created = false;  ///< false: it was there already
};

enum class Health { kUndetected, kUnhealthy, kHealthy };

struct Fingerprint {
  std::map<std::string, std::string> attributes;  ///< "driver.containerd-driver.…"; "" removes one
  Health health = Health::kUndetected;
  std::string description;  ///< stable text: a change makes a node event
  bool operator==(const Fingerprint&) const = default;
};

struct TaskEvent {
  TaskId id;
  std::string alloc_id;
  std::string task_name;
  WallTime time;
  std::string message;
  std::map<std::string, std::string> annotations;
};

/// What the agent tells about the node in SetConfig; all zero in its validating instance.
struct NodeInfo {
  double core_mhz = 0;  ///< total_compute / cores, for ticks; 0 = measure from cpuinfo
  double total_compute_mhz = 0;
};

/// What StartTask returns to be stored by the agent and handed back to recover(). Opaque to it; the record on disk is
/// what really counts, this is the way to find it.
struct StartedTask {
  std::string driver_state;
};

}  // namespace driver
