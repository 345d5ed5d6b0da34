// A command inside a task: what is asked for, what comes back, and the handle on it while it runs.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "driver/values/status.h"

namespace driver {

struct TerminalSize {
  std::uint32_t height = 0;  ///< rows; 0 = not known
  std::uint32_t width = 0;   ///< columns
};

/// A command to run inside a task, with the task's own user, environment, directory, limits and capabilities.
struct ExecSpec {
  std::vector<std::string> command;
  std::string user;                        ///< "" = the task's; else looked up in its root as in a job
  std::string cwd;                         ///< "" = the task's
  std::map<std::string, std::string> env;  ///< beside the task's, whose variables of the same names it replaces
  bool tty = false;                     ///< a terminal of its own: stderr is stdout, and its end is the command's end
  bool has_stdin = false;               ///< else it reads /dev/null
  TerminalSize size;                    ///< at the start
  std::chrono::nanoseconds timeout{0};  ///< from the call on, then it is killed; 0 = none
  /// How long output is waited for, without any, after the command's end: a process that it left behind may hold the
  /// pipes. nullopt = for their end, as pipes of a shell are.
  std::optional<std::chrono::milliseconds> drain_after_exit;
};

/// Clients of an agent send a heartbeat every 10 s, and the agent passes it on. It does not pass on that they are gone.
inline constexpr std::chrono::seconds kExecSilenceMax{35};

enum class ExecStream { kStdout, kStderr };

/// What a command says. On the loop's thread, must not block.
struct ExecCallbacks {
  /// Bytes as they came. False asks for a pause until resume_output().
  std::function<bool(ExecStream, std::string_view)> on_output;
  /// All that write_stdin() took has been passed on, after it returned false. May be empty.
  std::function<void()> on_stdin_drained;
  /// Once, and the last: how it ended. A command that cannot be run has ended with 127 or 126, and says why on stderr.
  ///   errors  kFailedPrecondition the task does not run · kDeadlineExceeded, kCancelled: it was killed · others
  std::function<void(base::Result<ExitResult>)> on_end;
};

/// A command that runs inside a task. Dropping it does not end the command; cancel() does.
/// threads  the loop's, but for cancel(). All are no-ops after the end.
class ExecSession {
 public:
  virtual ~ExecSession() = default;
  /// False asks for a pause until on_stdin_drained: a command may never read.
  virtual bool write_stdin(std::string_view data) = 0;
  virtual void close_stdin() = 0;
  virtual void resize(TerminalSize size) = 0;
  virtual void resume_output() = 0;
  /// The caller lives. One that has said so once, and then says nothing for kExecSilenceMax, is gone: as cancel().
  virtual void heartbeat() = 0;
  /// Kills the command and its children. Any thread.
  virtual void cancel() = 0;
};

}  // namespace driver
