// The paths that a container's output goes to: Nomad's FIFOs, handed to the shim as they are.
#pragma once

#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace shim {

struct Stdio {
  std::string stdin_path;   ///< "" = /dev/null
  std::string stdout_path;  ///< FIFO, "" = /dev/null, or "binary:///program?argument=value": it takes both outputs
  std::string stderr_path;  ///< the same; unused with a terminal
  bool terminal = false;    ///< must be what config.json or the exec's Process says
};

/// Paths that were looked at once, and descriptors that keep them what they were.
struct HeldStdio {
  Stdio paths;                 ///< "/proc/<our pid>/fd/<n>": for create() or exec(), instead of the plain paths
  std::vector<base::Fd> held;  ///< to be kept until create() or start_exec() has returned, then closed
};

/// Opens the FIFOs for reading and writing, so that
///   - the shim does not wait 30 s for a reader that is late or gone,
///   - a path that is replaced by a symlink afterwards cannot lead the shim (root) elsewhere.
/// While they are held the reader cannot see an end of file: close them as soon as the shim has opened its own ends.
///   errors  kFailedPrecondition neither FIFO nor /dev/null · kNotFound
base::Result<HeldStdio> open_stdio(const Stdio& stdio);

/// Writers of the output's FIFOs: while they are kept, the reader outlives the end of a shim that held the only ones.
/// What cannot be opened is left out: open_stdio() says why.
std::vector<base::Fd> keep_readers(const Stdio& stdio);

}  // namespace shim
