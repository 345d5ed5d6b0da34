#include "driver/image/archive.h"

#include <fcntl.h>

#include <array>
#include <string_view>

#include "base/file.h"

namespace driver {

namespace {
constexpr std::array<std::string_view, 3> kPrefixes = {"docker-archive:", "oci-archive:", "oci:"};
}  // namespace

std::optional<ArchiveSource> archive_source(const std::string& image) {
  for (const std::string_view prefix : kPrefixes) {
    if (!image.starts_with(prefix)) continue;
    const std::string rest = image.substr(prefix.size());
    const auto colon = rest.find(':');
    if (colon == std::string::npos) return ArchiveSource{rest, ""};
    return ArchiveSource{rest.substr(0, colon), rest.substr(colon + 1)};
  }
  return std::nullopt;
}

base::Result<base::Fd> open_archive(const TaskSpec& spec, const ArchiveSource& source) {
  if (source.path.empty()) return base::Error::invalid_argument("the image's archive has no path");
  base::Result<base::Fd> opened = base::Error::not_found("");
  if (source.path.front() == '/') {
    opened = base::open_file(source.path, O_PATH);
  } else {
    TRY(const base::Fd task_dir, base::open_dir(base::str(spec.alloc_dir, "/", spec.name)));
    opened = base::open_in_root(task_dir.get(), source.path, O_PATH);
  }
  if (opened) opened = base::open_named(*opened, base::FileKind::kFileOrDir, O_RDONLY);
  if (!opened) return std::move(opened).error().wrap(base::str("opening the image's archive ", source.path));
  return opened;
}

}  // namespace driver
