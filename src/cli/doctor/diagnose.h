// What `doctor` knows of a node, and what it makes of that. Pure: gather.h looks, this judges.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "oci/gc.h"

namespace cli {

/// A program that tasks need.
struct ProgramFact {
  std::string what;                ///< "shim"
  std::string option;              ///< of the plugin that names it
  std::string path;                ///< "" = not found
  std::string problem;             ///< why it was not found, or does not say its version
  bool is_slow = false;            ///< that is because it did not answer in time
  std::string version;             ///< what it says, one line
  std::string writable_by_others;  ///< it, or the folder above it that somebody else than root can change
  std::string owner_and_mode;      ///< "0:0 755"
};

/// The unit that the agent runs in, as systemd has it.
struct UnitFact {
  std::string name;
  std::string kill_mode;
  std::string delegate;
  std::string tasks_max;  ///< a number, or "infinity"
};

struct NodeFacts {
  bool is_root = false;
  std::string kernel;       ///< "6.1.0-18-amd64"
  std::string cgroup_mode;  ///< "v2", "hybrid", "v1", "" = none is mounted
  std::set<std::string> controllers;
  std::optional<bool> overlay;  ///< whether the kernel knows it; unset: not known
  bool overlay_module = false;  ///< whether it can load it
  std::optional<std::int64_t> user_namespaces_max;
  bool seccomp = false;
  bool apparmor = false;
  bool apparmor_parser = false;
  std::vector<ProgramFact> programs;
  std::string cni_path;
  std::vector<std::string> cni_missing;
  bool iptables = false;
  std::optional<bool> ip_forward;
  bool bridge_netfilter = false;
  std::string data_dir;
  std::optional<oci::GcDisk> disk;  ///< of data_dir, or of what is there of its path
  std::string disk_problem;
  std::uint64_t images = 0;
  std::vector<std::string> damaged_images;  ///< "docker.io/library/redis:7: layer … is missing"
  std::string store_problem;                ///< index.json cannot be read
  std::vector<std::string> hosts_problems;  ///< files that cannot be read
  std::optional<UnitFact> unit;
  std::vector<std::string> leftovers;  ///< paths
  std::string leftovers_problem;       ///< why there may be others
  std::vector<std::string> unreadable_records;
  std::string tasks_problem;
};

enum class Verdict { kOk, kWarn, kFail };
struct Finding {
  Verdict verdict = Verdict::kOk;
  std::string check;   ///< "shim"
  std::string text;    ///< what was seen
  std::string remedy;  ///< "" if nothing is wrong
};

/// In the order in which a node is set up.
std::vector<Finding> diagnose(const NodeFacts& facts);
const char* name_of(Verdict verdict);

}  // namespace cli
