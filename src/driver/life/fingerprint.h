// What the host offers: found programs, their versions, and whether tasks can run.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "base/context.h"
#include "base/result.h"
#include "driver/values/status.h"

namespace driver {

/// Looks at the host. Keeps the shim's version as long as the file does not change, so that looking costs no process.
/// threads  any; one look at a time
class HostProbe {
 public:
  Fingerprint look(const base::Context& ctx, const PluginOptions& options);

 private:
  base::Result<std::string> shim_version(const base::Context& ctx, const std::string& path);

  std::mutex mutex_;
  std::string known_file_;  ///< path, inode, size and mtime of the shim whose version is known
  std::string known_version_;
};

}  // namespace driver
