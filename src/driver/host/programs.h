// The programs that the driver runs, found on this node.
#pragma once

#include <string>

#include "base/context.h"
#include "base/result.h"

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

/// The first of `path` and the folders above it that somebody else than root (or us) can change: whoever can rename one
/// of them can put another file there. In a sticky folder, such as /tmp, nobody can rename what is root's. "" = none.
///   errors  by errno, naming what could not be looked at
base::Result<std::string> writable_by_others(const std::string& path);

}  // namespace driver
