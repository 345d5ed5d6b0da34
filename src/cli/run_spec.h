// From the flags of `run` to what the driver is asked for. Pure, but for the caller's directory and environment.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/network.h"
#include "driver/values/task_spec.h"

namespace cli {

struct RunFlags {
  bool remove = false;
  bool detach = false;
  std::string cidfile;
  std::string pull;        ///< "", always, missing, newer, never
  std::string log_driver;  ///< "", none, or a file's
  bool interactive = false;
  bool tty = false;
  std::string name;
  std::vector<std::string> env_files;
  std::vector<std::string> labels;
  std::vector<std::string> mounts;  ///< "type=bind,source=…,target=…"
  std::vector<std::string> tmpfs;
  std::string shm_size;
  std::string memory;
  std::string memory_swap;
  std::string memory_reservation;
  std::string cpus;
  std::string cpu_shares;
  std::string cpuset_cpus;
  std::string pids_limit;
  std::string oom_score_adj;
  std::vector<std::string> ulimits;
  std::vector<std::string> sysctls;
  std::vector<std::string> devices;
  std::vector<std::string> security_opt;
  std::vector<std::string> group_add;
  std::string runtime;
  std::string pid;
  std::string ipc;
  std::string uts;
  std::string restart;
  std::string stop_signal;
  std::string stop_timeout;
  bool init = false;
  bool sig_proxy = true;
  std::vector<std::string> env;      ///< "K=V", or "K" = our own value if there is one
  std::vector<std::string> volumes;  ///< "source:target[:option,…]"
  std::string platform;
  NetworkFlags network;
  std::string hostname;
  std::string user;
  std::vector<std::string> entrypoint;  ///< the last one counts: a program, a JSON list, or "" for none
  std::string cwd;
  bool privileged = false;
  bool readonly = false;
  std::vector<std::string> cap_add;
  std::vector<std::string> cap_drop;
};

/// What a call of `run` or `create` asks for.
struct RunRequest {
  RunFlags flags;
  std::vector<std::string> args;  ///< of the call: flags, image, command
  driver::TaskSpec spec;
};

/// A limit that `run` sets and `update` changes.
struct LimitFlag {
  const char* name;
  char letter;
  const char* value;
  const char* help;
  std::string RunFlags::*member;
};
const std::vector<LimitFlag>& limit_flags();

/// The flags of `run` and `create`.
void declare_run_flags(Flags& flags, RunFlags& into);

/// Adds "K=V", or "K" with our own value if there is one.
///   errors  kInvalidArgument an entry without a name
base::Status add_env(const std::vector<std::string>& entries, std::map<std::string, std::string>& env);

/// Adds the variables of a file.
///   errors  by errno · kInvalidArgument with the line
base::Status add_env_file(const std::string& path, std::map<std::string, std::string>& env);

/// `args`: the image, then the command. Everything that an option of a job may not be is refused here with the same
/// words. The task's id is new in every call; paths for its output are the caller's business.
///   errors  kInvalidArgument naming the flag and the value
base::Result<driver::TaskSpec> make_task_spec(const RunFlags& flags, const std::vector<std::string>& args);

}  // namespace cli
