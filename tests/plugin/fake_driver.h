// A driver without containers, linked in the place of src/driver/driver.cc: tasks are entries in a table, and the test
// says what happens to them.
#pragma once

#include <map>
#include <optional>
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
  bool start_blocks = false;  ///< until the context ends; its error is the answer
  driver::ExecOutput exec_output;
  driver::TaskStatus status;

  // What was asked, one line a call: "stop <id> 5000 ms SIGTERM".
  std::vector<std::string> calls;
  std::optional<driver::PluginOptions> options;
  std::optional<driver::NodeInfo> node;
  std::map<std::string, FakeTask> tasks;
  base::Deadline exec_deadline{};
};

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
