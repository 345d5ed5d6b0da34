#include "base/dir.h"

#include <cerrno>

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

}  // namespace base
