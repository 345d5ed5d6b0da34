#include "driver/life/kept_layer.h"

#include <fcntl.h>
#include <stdio.h>

#include <array>
#include <cerrno>

#include "base/file.h"

namespace driver {

namespace {

constexpr std::array<const char*, 2> kParts = {"/upper", "/volumes"};

// Never over another one: both may have what the container wrote.
base::Result<bool> move(const std::string& from, const std::string& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return true;
  if (errno == ENOENT) return false;
  return base::Error::from_errno(errno, base::str("moving ", from, " to ", to));
}

}  // namespace

base::Status keep_layer(const std::string& kept_dir, const TaskNames& names) {
  if (kept_dir.empty()) return {};
  TRY_VOID(base::make_dirs(kept_dir, 0700));
  for (const char* part : kParts) {
    TRY([[maybe_unused]] const bool moved, move(names.task_dir + part, kept_dir + part));
  }
  return {};
}

base::Result<bool> take_back_layer(const std::string& kept_dir, const TaskNames& names) {
  bool any = false;
  if (kept_dir.empty()) return any;
  for (const char* part : kParts) {
    TRY(const bool moved, move(kept_dir + part, names.task_dir + part));
    any = any || moved;
  }
  return any;
}

}  // namespace driver
