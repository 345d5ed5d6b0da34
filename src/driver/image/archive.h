// Images that a job brings along as a file: image = "docker-archive:local/app.tar".
#pragma once

#include <optional>
#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "driver/files/sources.h"
#include "driver/values/task_spec.h"

namespace driver {

/// "docker-archive:PATH[:NAME]", "oci-archive:PATH[:NAME]" or "oci:PATH[:NAME]". Which kind of archive a file is shows
/// by its content, so the first two mean the same. Pure.
struct ArchiveSource {
  std::string path;        ///< absolute, or relative to the task's folder, as the source of a mount
  std::string name;        ///< which of the images in it, "" = the only one
  bool directory = false;  ///< an OCI layout ("oci:")
};
std::optional<ArchiveSource> archive_source(const std::string& image);

/// Opens it without waiting for what may be in its place. An absolute path is the host's: life/gates.h says whether a
/// job may name one. A relative path stays in the task's folder, whatever links say, or ("alloc/…") in the shared one.
///   errors  kInvalidArgument, naming the path: there is no such file, it leads out, it is a FIFO, a device, …
base::Result<base::Fd> open_archive(const TaskSpec& spec, const ArchiveSource& source);

/// `spec` with the option `load` (Docker's: an archive in local/ that the image is in) turned into an image of that
/// archive, if it is there, or else into one that has no effect.
TaskSpec resolve_load(TaskSpec spec);

}  // namespace driver
