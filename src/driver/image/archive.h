// Images that a job brings along as a file: image = "docker-archive:local/app.tar".
#pragma once

#include <optional>
#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "driver/values/task_spec.h"

namespace driver {

/// "docker-archive:PATH[:NAME]", "oci-archive:PATH[:NAME]" or "oci:PATH[:NAME]", where PATH is an OCI layout's folder.
/// What is there is told by its content, so the three mean the same. Pure.
struct ArchiveSource {
  std::string path;  ///< absolute, or relative to the task's folder, as the source of a mount
  std::string name;  ///< which of the images in it, "" = the only one
};
std::optional<ArchiveSource> archive_source(const std::string& image);

/// Opens it. A relative path is looked up in the task's folder, whatever links say; an absolute one is the host's.
///   errors  kNotFound, naming the path · kInvalidArgument neither a file nor a folder: a FIFO, a device · errno codes
base::Result<base::Fd> open_archive(const TaskSpec& spec, const ArchiveSource& source);

}  // namespace driver
