#include "base/dir.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/file.h"

namespace base {

Result<Dir> Dir::read(Fd fd, std::string what) {
  Dir dir;
  dir.stream_.reset(::fdopendir(fd.get()));
  if (!dir.stream_) return Error::from_errno(errno, str("reading ", what));
  [[maybe_unused]] const int owned = fd.release();
  dir.what_ = std::move(what);
  return dir;
}

Result<const dirent*> Dir::next() {
  while (true) {
    errno = 0;
    const dirent* const entry = ::readdir(stream_.get());
    if (entry == nullptr && errno != 0) return Error::from_errno(errno, str("reading ", what_));
    const std::string_view name = entry == nullptr ? "" : entry->d_name;
    if (name != "." && name != "..") return entry;
  }
}

namespace {

Result<std::vector<std::string>> names_of(Result<Dir> dir, const std::string& what, std::size_t entries_max) {
  if (!dir) return std::move(dir).error();
  dir->rewind();
  std::vector<std::string> names;
  for (;;) {
    TRY(const dirent* entry, dir->next());
    if (entry == nullptr) break;
    if (names.size() >= entries_max) {
      return Error::resource_exhausted(str(what, " has too many entries: the limit is at ", entries_max));
    }
    names.emplace_back(entry->d_name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

Result<std::vector<std::string>> list_dir(const std::filesystem::path& path) {
  TRY(Fd fd, open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  return names_of(Dir::read(std::move(fd), path.native()), path.native(), SIZE_MAX);
}

Result<std::vector<std::string>> list_dir(int dir_fd, std::string what, std::size_t entries_max) {
  TRY(Fd copy, dup_fd(dir_fd));
  return names_of(Dir::read(std::move(copy), what), what, entries_max);
}

}  // namespace base
