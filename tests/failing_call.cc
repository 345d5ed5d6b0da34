// Both names of a call are defined here: the one that callers in this tree use, and the one that libraries do.
#undef _FILE_OFFSET_BITS

#include "tests/failing_call.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <mutex>
#include <optional>
#include <utility>

// glibc says of many arguments that they are never null; the functions here get what a caller gives.
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wnonnull-compare"
#endif

namespace {

struct Rule {
  std::string call;
  std::string path_part;
  int error = 0;
};

std::mutex mutex;
std::optional<Rule> rule;
std::atomic<bool> active{false};
std::atomic<int> fired{0};

std::string path_of(int fd) {
  if (fd == AT_FDCWD) return "";
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  char buffer[PATH_MAX];
  const long size = ::syscall(SYS_readlink, link.c_str(), buffer, sizeof buffer);
  return size < 0 ? "" : std::string(buffer, static_cast<std::size_t>(size));
}

/// Whether this call has to fail; errno is set then. `name` may be null: the descriptor itself.
bool fails(const char* call, int fd, const char* name) {
  if (!active) return false;
  const std::lock_guard lock(mutex);
  if (!rule || rule->call != call) return false;
  std::string path = name != nullptr && *name == '/' ? "" : path_of(fd);
  if (name != nullptr && *name != '\0') path += std::string("/") + name;
  if (path.find(rule->path_part) == std::string::npos) return false;
  ++fired;
  errno = rule->error;
  return true;
}

template <typename Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

namespace tests {

FailingCall::FailingCall(std::string call, std::string path_part, int error) {
  const std::lock_guard lock(mutex);
  if (rule) ::abort();
  rule = Rule{std::move(call), std::move(path_part), error};
  fired = 0;
  active = true;
}

FailingCall::~FailingCall() {
  const std::lock_guard lock(mutex);
  active = false;
  rule.reset();
}

int FailingCall::times() const {
  return fired;
}

}  // namespace tests

// NOLINTBEGIN: these names are the C library's.
extern "C" {

#define CALL_NEXT(name) next<decltype(name)>(#name)

static int open_next(int dir, const char* path, int flags, mode_t mode) {
  if (fails("open", dir, path)) return -1;
  return static_cast<int>(::syscall(SYS_openat, dir, path, flags, mode));
}

#define MODE_OF(last)                                \
  mode_t mode = 0;                                   \
  if ((flags & (O_CREAT | __O_TMPFILE)) != 0) {      \
    va_list arguments;                               \
    va_start(arguments, last);                       \
    mode = va_arg(arguments, mode_t);                \
    va_end(arguments);                               \
  }

int open(const char* path, int flags, ...) {
  MODE_OF(flags)
  return open_next(AT_FDCWD, path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  MODE_OF(flags)
  return open_next(AT_FDCWD, path, flags, mode);
}
int openat(int dir, const char* path, int flags, ...) {
  MODE_OF(flags)
  return open_next(dir, path, flags, mode);
}
int openat64(int dir, const char* path, int flags, ...) {
  MODE_OF(flags)
  return open_next(dir, path, flags, mode);
}
int __open_2(const char* path, int flags) {
  return open_next(AT_FDCWD, path, flags, 0);
}
int __openat_2(int dir, const char* path, int flags) {
  return open_next(dir, path, flags, 0);
}
int __open64_2(const char* path, int flags) {
  return open_next(AT_FDCWD, path, flags, 0);
}
int __openat64_2(int dir, const char* path, int flags) {
  return open_next(dir, path, flags, 0);
}
DIR* opendir(const char* path) {
  return fails("open", AT_FDCWD, path) ? nullptr : CALL_NEXT(opendir)(path);
}
int nftw(const char* path, __nftw_func_t visit, int descriptors, int flags) {
  return fails("open", AT_FDCWD, path) ? -1 : CALL_NEXT(nftw)(path, visit, descriptors, flags);
}
int nftw64(const char* path, __nftw64_func_t visit, int descriptors, int flags) {
  return fails("open", AT_FDCWD, path) ? -1 : CALL_NEXT(nftw64)(path, visit, descriptors, flags);
}

ssize_t read(int fd, void* buffer, size_t size) {
  if (fails("read", fd, nullptr)) return errno == tests::FailingCall::kShortRead ? 0 : -1;
  return CALL_NEXT(read)(fd, buffer, size);
}
ssize_t __read_chk(int fd, void* buffer, size_t size, size_t /*room*/) {
  return read(fd, buffer, size);
}
ssize_t write(int fd, const void* buffer, size_t size) {
  return fails("write", fd, nullptr) ? -1 : CALL_NEXT(write)(fd, buffer, size);
}
dirent* readdir(DIR* dir) {
  return fails("readdir", ::dirfd(dir), nullptr) ? nullptr : CALL_NEXT(readdir)(dir);
}
dirent64* readdir64(DIR* dir) {
  return fails("readdir", ::dirfd(dir), nullptr) ? nullptr : CALL_NEXT(readdir64)(dir);
}

int stat(const char* path, struct stat* info) {
  return fails("stat", AT_FDCWD, path) ? -1 : CALL_NEXT(stat)(path, info);
}
int stat64(const char* path, struct stat64* info) {
  return fails("stat", AT_FDCWD, path) ? -1 : CALL_NEXT(stat64)(path, info);
}
int lstat(const char* path, struct stat* info) {
  return fails("stat", AT_FDCWD, path) ? -1 : CALL_NEXT(lstat)(path, info);
}
int lstat64(const char* path, struct stat64* info) {
  return fails("stat", AT_FDCWD, path) ? -1 : CALL_NEXT(lstat64)(path, info);
}
int fstat(int fd, struct stat* info) {
  return fails("stat", fd, nullptr) ? -1 : CALL_NEXT(fstat)(fd, info);
}
int fstat64(int fd, struct stat64* info) {
  return fails("stat", fd, nullptr) ? -1 : CALL_NEXT(fstat64)(fd, info);
}
int fstatat(int dir, const char* path, struct stat* info, int flags) {
  return fails("stat", dir, path) ? -1 : CALL_NEXT(fstatat)(dir, path, info, flags);
}
int fstatat64(int dir, const char* path, struct stat64* info, int flags) {
  return fails("stat", dir, path) ? -1 : CALL_NEXT(fstatat64)(dir, path, info, flags);
}
int statx(int dir, const char* path, int flags, unsigned mask, struct statx* info) {
  return fails("stat", dir, path) ? -1 : CALL_NEXT(statx)(dir, path, flags, mask, info);
}

int flock(int fd, int operation) {
  return fails("lock", fd, nullptr) ? -1 : CALL_NEXT(flock)(fd, operation);
}
int rename(const char* from, const char* to) {
  return fails("rename", AT_FDCWD, from) ? -1 : CALL_NEXT(rename)(from, to);
}
int renameat(int from_dir, const char* from, int to_dir, const char* to) {
  return fails("rename", from_dir, from) ? -1 : CALL_NEXT(renameat)(from_dir, from, to_dir, to);
}
int renameat2(int from_dir, const char* from, int to_dir, const char* to, unsigned flags) {
  return fails("rename", from_dir, from) ? -1 : CALL_NEXT(renameat2)(from_dir, from, to_dir, to, flags);
}
int unlink(const char* path) {
  return fails("unlink", AT_FDCWD, path) ? -1 : CALL_NEXT(unlink)(path);
}
int unlinkat(int dir, const char* path, int flags) {
  return fails("unlink", dir, path) ? -1 : CALL_NEXT(unlinkat)(dir, path, flags);
}

}  // extern "C"
// NOLINTEND
