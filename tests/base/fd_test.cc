#include "base/fd.h"

#include <doctest/doctest.h>
#include <fcntl.h>

#include <thread>

using base::Code;
using base::Context;
using namespace std::chrono_literals;

TEST_CASE("Fd closes what it owns, once") {
  auto pipe = base::make_pipe();
  REQUIRE(pipe.has_value());
  const int number = pipe->read_end.get();
  CHECK((::fcntl(number, F_GETFD) & FD_CLOEXEC) != 0);
  base::Fd moved = std::move(pipe->read_end);
  CHECK_EQ(moved.get(), number);
  CHECK_FALSE(static_cast<bool>(pipe->read_end));
  moved.reset();
  CHECK_EQ(::fcntl(number, F_GETFD), -1);
}

TEST_CASE("wait_fd ends with data, deadline or stop") {
  auto pipe = base::make_pipe();
  const int fd = pipe->read_end.get();
  CHECK_EQ(base::wait_fd(Context::background().with_timeout(1ms), fd, base::Wait::kReadable).error().code,
           Code::kDeadlineExceeded);
  std::stop_source source;
  {
    std::jthread stopper([&] { source.request_stop(); });
    CHECK_EQ(base::wait_fd(Context::background().with_stop(source.get_token()), fd, base::Wait::kReadable).error().code,
             Code::kCancelled);
  }
  REQUIRE(base::write_all(Context::background(), pipe->write_end.get(), "x").has_value());
  CHECK(base::wait_fd(Context::background(), fd, base::Wait::kReadable).has_value());
}

TEST_CASE("read_to_end stops at the limit") {
  auto pipe = base::make_pipe();
  std::jthread writer([&] {
    [[maybe_unused]] const auto w = base::write_all(Context::background(), pipe->write_end.get(), std::string(10, 'a'));
    pipe->write_end.reset();
  });
  CHECK_EQ(base::read_to_end(Context::background(), pipe->read_end.get(), 9, "answer").error().message,
           "answer is larger than the limit of 9 bytes");
}

TEST_CASE("write_all waits for a full pipe to drain") {
  auto pipe = base::make_pipe();
  ::fcntl(pipe->write_end.get(), F_SETFL, O_NONBLOCK);
  const std::string big(1 << 20, 'b');
  std::string got;
  std::jthread reader(
      [&] { got = base::read_to_end(Context::background(), pipe->read_end.get(), big.size(), "pipe").value(); });
  REQUIRE(base::write_all(Context::background(), pipe->write_end.get(), big).has_value());
  pipe->write_end.reset();
  reader.join();
  CHECK(got == big);
}

TEST_CASE("write_all into a blocking pipe ends with ctx when the reader stalls") {
  auto pipe = base::make_pipe();
  const std::string big(1 << 20, 'b');
  CHECK_EQ(base::write_all(Context::background().with_timeout(1ms), pipe->write_end.get(), big).error().code,
           Code::kDeadlineExceeded);
  std::stop_source source;
  std::jthread stopper([&] { source.request_stop(); });
  CHECK_EQ(
      base::write_all(Context::background().with_stop(source.get_token()), pipe->write_end.get(), big).error().code,
      Code::kCancelled);
}

TEST_CASE("write_all into a blocking pipe writes all that is read") {
  auto pipe = base::make_pipe();
  const std::string big(1 << 20, 'b');
  std::string got;
  std::jthread reader(
      [&] { got = base::read_to_end(Context::background(), pipe->read_end.get(), big.size(), "pipe").value(); });
  REQUIRE(base::write_all(Context::background(), pipe->write_end.get(), big).has_value());
  pipe->write_end.reset();
  reader.join();
  CHECK(got == big);
  pipe->read_end.reset();
  CHECK_EQ(base::write_all(Context::background(), -1, "x").error().sys_errno, EBADF);
}
