// The command line: what a person at a node types. One file per verb; all of them use driver::Driver and oci::Images,
// the same objects that serve Nomad, over the same directories, so they work beside a running plugin and without one.
#pragma once

#include <ostream>
#include <string>
#include <vector>

namespace cli {

/// Where a verb writes. Results go to `out`, everything else (progress, errors) to `err`.
struct Io {
  std::ostream& out;
  std::ostream& err;
  bool err_is_terminal = false;
};

// Exit codes. A command run in a container adds its own.
constexpr int kExitOk = 0;
constexpr int kExitFailure = 1;       ///< the verb failed: one line on stderr says why
constexpr int kExitRunning = 2;       ///< `rm`: a container runs, and --force was not given
constexpr int kExitMisuse = 125;      ///< unknown verb or flag, missing or surplus argument
constexpr int kExitRunFailure = 125;  ///< `run`: we failed, the command did not run
constexpr int kExitCannotRun = 126;   ///< `run`: the command is not executable
constexpr int kExitNotFound = 127;    ///< `run`: there is no such command
constexpr int kExitSignalBase = 128;

/// The whole program but argv[0]. Returns the exit code. Call it before any thread exists: `run` blocks signals so that
/// it can forward them.
int main(const std::vector<std::string>& args);
/// The same with other streams, for tests.
int main(const std::vector<std::string>& args, Io io);

}  // namespace cli
