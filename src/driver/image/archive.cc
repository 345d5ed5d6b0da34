#include "driver/image/archive.h"

#include <fcntl.h>

#include <array>
#include <string_view>
#include <utility>

#include "base/file.h"

namespace driver {

using base::Error;
using base::Fd;
using base::Result;
using base::str;

namespace {

constexpr std::string_view kLayout = "oci:";
constexpr std::array<std::string_view, 3> kPrefixes = {"docker-archive:", "oci-archive:", kLayout};

Result<MountSource> place_of(const TaskSpec& spec, const std::string& path);

}  // namespace

std::optional<ArchiveSource> archive_source(const std::string& image) {
  for (const std::string_view prefix : kPrefixes) {
    if (!image.starts_with(prefix)) continue;
    const std::string rest = image.substr(prefix.size());
    const auto colon = rest.find(':');
    if (colon == std::string::npos) return ArchiveSource{rest, "", prefix == kLayout};
    return ArchiveSource{rest.substr(0, colon), rest.substr(colon + 1), prefix == kLayout};
  }
  return std::nullopt;
}

Result<Fd> open_archive(const TaskSpec& spec, const ArchiveSource& source) {
  if (source.path.empty()) {
    return Error::invalid_argument(
        "the image has no path: name the archive, like docker-archive:local/app.tar or oci:local/layout");
  }
  TRY(const MountSource place, place_of(spec, source.path));
  TRY(const OpenSource found, open_source("image archive", place));
  const auto kind = source.directory ? base::FileKind::kDirectory : base::FileKind::kFile;
  auto opened = base::open_named(found.fd, kind, O_RDONLY);
  if (!opened) return std::move(opened).error().wrap(str("image archive ", source.path, " cannot be used"));
  return opened;
}

TaskSpec resolve_load(TaskSpec spec) {
  TaskOptions& options = spec.options;
  const ArchiveSource source{"local/" + std::exchange(options.load, {}), options.image, false};
  const bool plain = source.path.find(':') == std::string::npos && !archive_source(options.image);
  if (plain && open_archive(spec, source)) {
    options.image = str("docker-archive:", source.path, ":", source.name);
  } else {
    options.without_effect.emplace_back("load");
  }
  return spec;
}

namespace {

// Links lead where they lead for the task: it sees local/ and secrets/ beside each other, below one root.
Result<MountSource> place_of(const TaskSpec& spec, const std::string& path) {
  const TaskDirs dirs = task_dirs(spec);
  TRY(MountSource place, resolve_source("image archive", path, dirs));
  for (const auto& [dir, name] : {std::pair(dirs.local, "local/"), std::pair(dirs.secrets, "secrets/")}) {
    if (!dir.empty() && place.base == dir) return MountSource{dirs.task, name + place.path};
  }
  return place;
}

}  // namespace
}  // namespace driver
