// The blocking steps of running a command inside a task: how it is named, started at the shim, and cleared away.
//
// disk      <bundle>/<exec id>.{in,out,err} are the FIFOs of one command, from before it is known to the shim until it
//           is deleted there. Their owner holds a flock on .out: whoever finds one without it knows that the owner
//           died.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/context.h"
#include "base/fd.h"
#include "base/process.h"
#include "base/result.h"
#include "driver/files/user.h"
#include "driver/host/process_tree.h"
#include "driver/life/record.h"
#include "driver/values/exec_session.h"
#include "shim/shim.h"

namespace driver {

/// SIGKILL to the end of a command and of what it started: only uninterruptible sleep needs longer.
inline constexpr std::chrono::seconds kExecKillTimeout{10};

struct ExecNames {
  std::string id;          ///< "exec" and 16 hex
  std::string stdin_fifo;  ///< absolute
  std::string stdout_fifo;
  std::string stderr_fifo;
};
/// New ones; nothing is made.
ExecNames new_exec_names(const std::string& bundle_dir);

/// Our ends. Non-blocking; -1 where the command has none (stderr of a terminal, stdin that was not asked for).
struct ExecPipes {
  base::Fd in;
  base::Fd out;
  base::Fd err;
};

struct StartedExec {
  base::ProcessId process;          ///< start_ticks 0: it had ended before we looked
  std::vector<StreamId> its_pipes;  ///< its ends of stdin, stdout and stderr; empty likewise
  ExecPipes pipes;
};

/// The container's own process with another command, and what else `spec` says: same user, environment, directory,
/// capabilities, limits and, by the runtime, seccomp profile and name spaces. TERM is set for a terminal if the task
/// has none. Pure.
///   in      config_json: the bundle's; user: what spec.user was found to be
///   errors  kInvalidArgument config.json is not one of ours
base::Result<std::string> exec_process_json(const std::string& config_json, const ExecSpec& spec,
                                            const std::optional<ResolvedUser>& user = std::nullopt);

/// Starts spec.command in the container.
///   blocks  some 40 ms for the runtime; ctx is checked before it runs, not while it does: the outcome would be lost
///   errors  kFailedPrecondition the task does not run · kCancelled · what the runtime says, in its own words. After an
///           error nothing of the command is left.
base::Result<StartedExec> start_exec(const base::Context& ctx, shim::Shim& shim, const Record& record,
                                     const ExecSpec& spec, const ExecNames& names);

/// Deletes a command at the shim, kills it first if it still runs, and removes its FIFOs. Idempotent.
///   blocks  up to 10 s when a process that the command left behind holds its output (the shim waits for that)
base::Status clear_exec(const base::Context& ctx, shim::Shim& shim, const Record& record, const ExecNames& names);

/// clear_exec for all commands whose owner has died. For a task that was just taken over.
void clear_orphaned_execs(const base::Context& ctx, shim::Shim& shim, const Record& record);

}  // namespace driver
