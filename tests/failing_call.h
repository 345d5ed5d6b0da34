// System calls that fail in a test as they do on a machine that is out of something or has a broken disk: the real code
// runs, and the C library's functions of these names are replaced in the test program by ones that look here first.
#pragma once

#include <cerrno>
#include <string>

namespace tests {

/// While it lives, these calls fail when their path, or that of their descriptor, contains `path_part`. Any thread; at
/// most one at a time.
///   open     opening, also of a directory, and listing one with std::filesystem
///   read     of a descriptor; kShortRead: as if the file ended here
///   readdir  in the middle of a listing
///   stat     stat, lstat, fstat, fstatat, statx
///   lock     flock
///   rename, unlink (also of folders), write
class FailingCall {
 public:
  static constexpr int kShortRead = 0;

  FailingCall(std::string call, std::string path_part, int error);
  ~FailingCall();
  FailingCall(const FailingCall&) = delete;
  FailingCall& operator=(const FailingCall&) = delete;
  /// How often it has failed: a test in which it never did tests nothing.
  int times() const;
};

}  // namespace tests
