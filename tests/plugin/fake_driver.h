// A driver without containers, linked in the place of src/driver/driver*.cc: tasks are entries in a table, and the test
// says what happens to them.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/subscription.h"
#include "base/sync.h"
#include "driver/driver.h"

namespace tests {

struct FakeTask {
  driver::TaskSpec spec;
  std::optional<driver::ExitResult> exit;
};

/// What all driver::Driver objects of the test program do and have seen.
struct FakeDriver {
  // What the next calls answer.
  std::optional<base::Error> start_error;
  std::optional<base::Error> configure_error;
  bool start_blocks = false;              ///< until the context ends; its error is the answer
  std::optional<base::Error> exec_error;  ///< of driver::exec() itself
  driver::TaskStatus status;

  // What was asked, one line a call: "stop <id> 5000 ms SIGTERM".
  std::vector<std::string> calls;
  std::optional<driver::PluginOptions> options;
  std::optional<driver::NodeInfo> node;
  std::map<std::string, FakeTask> tasks;
  std::set<std::string> networks;  ///< allocations that have one
};

/// A command that "runs": what it was told, and its caller's callbacks.
struct FakeExec final : driver::ExecSession {
  bool write_stdin(std::string_view data) override;
  void close_stdin() override;
  void resize(driver::TerminalSize size) override;
  void resume_output() override;
  void heartbeat() override;
  void cancel() override;

  driver::ExecSpec spec;
  driver::ExecCallbacks callbacks;
  /// "stdin 5", "eof", "resize 24x80", "resume", "heartbeat", "cancel"
  base::Guarded<std::vector<std::string>> told;
  std::atomic<bool> stdin_full{false};  ///< what write_stdin says
};
/// The last one that was begun, null without one.
std::shared_ptr<FakeExec> last_exec();

base::Guarded<FakeDriver>& fake();
void reset_fake();
/// The task ends; whoever waits is told, on this thread.
void end_task(const std::string& id, const driver::ExitResult& exit);
base::Hub<driver::Fingerprint>& fingerprints();
base::Hub<driver::TaskEvent>& events();
/// Samples for every stats subscriber; they end with the task.
base::Hub<driver::TaskStats>& samples();
/// Subscriptions of wait() and stats() that are held now.
int subscriptions();

}  // namespace tests
