// What the host offers: found programs, their versions, and whether tasks can run.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "base/context.h"
#include "base/result.h"
#include "driver/driver.h"

namespace driver {

/// The programs that tasks need, as absolute paths.
struct Programs {
  std::string shim;
  std::string runtime;
  std::string image_helper;
};

/// Absolute path of a program given as a path or as a name in the usual folders. kNotFound naming the option to set.
base::Result<std::string> find_program(const std::string& name, const std::string& option);
/// The image helper: as configured, else beside the running binary, else the libexec folder of the build.
base::Result<std::string> find_image_helper(const std::string& configured);
/// The first process of tasks with `init = true`, found in the same way.
base::Result<std::string> find_init(const std::string& configured);

/// What `<shim> -v` says, for people; no root needed. Errors as shim::probe_version.
base::Result<std::string> probe_shim_version(const base::Context& ctx, const std::string& shim);

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
