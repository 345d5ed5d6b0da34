// The entries of a directory.
#pragma once

#include <dirent.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace base {

/// Reads the entries of an open directory. Move-only; closes it at its end. Empty when default made.
/// threads  one at a time
class Dir {
 public:
  Dir() = default;
  /// Takes over a descriptor that was opened for reading (not O_PATH). `what` names it in errors.
  static Result<Dir> read(Fd fd, std::string what);

  /// The next entry but "." and "..", valid until the next call; nullptr at the end.
  Result<const dirent*> next();
  /// Back to the first.
  void rewind() { ::rewinddir(stream_.get()); }
  int fd() const { return ::dirfd(stream_.get()); }
  explicit operator bool() const { return stream_ != nullptr; }

 private:
  struct Close {
    void operator()(DIR* stream) const { ::closedir(stream); }
  };
  std::unique_ptr<DIR, Close> stream_;
  std::string what_;
};

/// The names in a directory, sorted, without "." and "..": all of them, or an error. A symlink is not followed.
Result<std::vector<std::string>> list_dir(const std::filesystem::path& path);
/// The same of an open one, from its start; moves its position. `what` names it in errors.
///   errors  kResourceExhausted it has more than `entries_max`
Result<std::vector<std::string>> list_dir(int dir_fd, std::string what, std::size_t entries_max = SIZE_MAX);

}  // namespace base
