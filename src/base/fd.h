// Owning file descriptors and the one blocking wait on them.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/context.h"
#include "base/result.h"

namespace base {

/// Owns a descriptor; closes it in the destructor. Move-only. -1 = none.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() { reset(); }
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1);

 private:
  int fd_ = -1;
};

struct Pipe {
  Fd read_end;
  Fd write_end;
};
/// Both ends O_CLOEXEC.
Result<Pipe> make_pipe();

Result<Fd> dup_fd(int fd);

enum class Wait { kReadable, kWritable };
/// Blocks until `fd` is ready (or in error/hang-up: the next call on it tells), or ctx ends. Any thread.
Status wait_fd(const Context& ctx, int fd, Wait for_what);

/// Writes all of `data`, waiting as needed; works on blocking and non-blocking descriptors. EPIPE is kUnavailable.
Status write_all(const Context& ctx, int fd, std::string_view data);

/// Reads until EOF. More than `bytes_max` bytes is kResourceExhausted (with `what` in the message).
Result<std::string> read_to_end(const Context& ctx, int fd, std::size_t bytes_max, std::string_view what);

/// Reads once into `out` after waiting for readability; 0 = EOF.
Result<std::size_t> read_some(const Context& ctx, int fd, std::span<char> out);

}  // namespace base
