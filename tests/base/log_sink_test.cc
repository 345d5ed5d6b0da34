// clang-format off
#include "base/fd.h"

#include <doctest/doctest.h>  // after base/result.h: both have a CHECK
// clang-format on
#include "base/log_sink.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <sstream>
#include <thread>
#include <vector>

#include "tests/base/no_threads.h"

using base::Context;
using namespace std::chrono_literals;

namespace {

struct Ends {
  base::Fd read_end;
  base::Fd write_end;
};

Ends pipe_ends() {
  auto pipe = base::make_pipe();
  REQUIRE(pipe);
  ::fcntl(pipe->read_end.get(), F_SETFL, O_NONBLOCK);
  return {std::move(pipe->read_end), std::move(pipe->write_end)};
}

Ends socket_ends() {
  int fds[2];
  REQUIRE_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  ::fcntl(fds[0], F_SETFL, O_NONBLOCK);
  return {base::Fd(fds[0]), base::Fd(fds[1])};
}

/// A sink lives as long as the process; kept here, so that it is no leak.
base::LogSink& new_sink(int fd) {
  static auto& sinks = *new std::vector<base::LogSink*>;
  sinks.push_back(new base::LogSink(fd, [](std::uint64_t lines) { return base::str("lost ", lines, "\n"); }));
  return *sinks.back();
}

std::string numbered(int i) {
  return base::str("line ", i, " ", std::string(90, '.'), "\n");
}

constexpr int kLines = 20'000;  // ten times what a pipe and the buffer hold

/// Reads until the line `last` has come.
std::vector<std::string> read_until(int fd, const std::string& last) {
  std::string text;
  std::array<char, 4096> chunk;
  const auto soon = Context::background().with_timeout(20s);
  while (text.find(last) == std::string::npos) {
    const auto n = base::read_some(soon, fd, chunk);
    REQUIRE(n);
    REQUIRE(*n > 0);
    text.append(chunk.data(), *n);
  }
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

/// The first lines in order, then how many are lost: all but those.
void check_lines(const std::vector<std::string>& lines) {
  std::size_t i = 0;
  while (i < lines.size() && lines[i] + "\n" == numbered(static_cast<int>(i))) ++i;
  CHECK(i > base::LogSink::kWaitingBytesMax / 100);
  REQUIRE(i < lines.size());
  CHECK_EQ(lines[i], base::str("lost ", static_cast<std::size_t>(kLines) - i));
}

}  // namespace

TEST_CASE("nobody waits for a reader that does not read; when it does, it learns how many lines are lost") {
  for (const auto make : {pipe_ends, socket_ends}) {
    const auto ends = make();
    const int flags = ::fcntl(ends.write_end.get(), F_GETFL);
    auto& sink = new_sink(ends.write_end.get());
    for (int i = 0; i < kLines; ++i) sink.write(numbered(i));
    CHECK_EQ(::fcntl(ends.write_end.get(), F_GETFL), flags);  // others have this descriptor, too
    // Nobody writes any more: what waits comes all the same.
    check_lines(read_until(ends.read_end.get(), "lost "));
    sink.write("again\n");
    CHECK_EQ(read_until(ends.read_end.get(), "again\n").back(), "again");
  }
}

TEST_CASE("what waits is written by the next line if there is no thread for it") {
  CHECK(tests::without_threads([] {
    const auto ends = pipe_ends();
    auto& sink = new_sink(ends.write_end.get());
    for (int i = 0; i < 1000; ++i) sink.write(numbered(i));
    std::array<char, 4096> chunk;
    std::string text;
    while (::read(ends.read_end.get(), chunk.data(), chunk.size()) > 0) continue;  // the pipe's share
    sink.write("last\n");
    for (ssize_t n; (n = ::read(ends.read_end.get(), chunk.data(), chunk.size())) > 0;) {
      text.append(chunk.data(), static_cast<std::size_t>(n));
    }
    return text.ends_with(numbered(999) + "last\n");
  }));
}

TEST_CASE("flush gives the reader a while, and no longer") {
  const auto ends = pipe_ends();
  auto& sink = new_sink(ends.write_end.get());
  for (int i = 0; i < kLines; ++i) sink.write(numbered(i));
  sink.flush(10ms);  // returns although nobody reads
  std::jthread reader([&] { check_lines(read_until(ends.read_end.get(), "lost ")); });
  sink.flush(20s);
  reader.join();
}

TEST_CASE("without a reader lines are dropped") {
  ::signal(SIGPIPE, SIG_IGN);
  auto ends = pipe_ends();
  auto& sink = new_sink(ends.write_end.get());
  for (int i = 0; i < 2000; ++i) sink.write(numbered(i));
  ends.read_end.reset();
  sink.write("x\n");
  sink.flush(20s);  // at once: nothing waits
  ends.write_end.reset();
  sink.write("x\n");  // nor is a closed descriptor anything to stumble over
  ::signal(SIGPIPE, SIG_DFL);
}
