#include "cli/pump.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include <span>
#include <vector>

#include "base/file.h"
#include "tests/base/no_threads.h"
#include "tests/temp_dir.h"

using base::Context;
using namespace std::chrono_literals;

namespace {
const Context kSoon = Context::background().with_timeout(10s);

void not_lost(const base::Error& why) {
  FAIL_CHECK(why.message);
}
}  // namespace

TEST_CASE("what writers write comes out until the last has closed") {
  const tests::TempDir dir;
  auto pipe = base::make_pipe();
  REQUIRE(pipe);
  const auto pump = cli::FifoPump::start(dir / "fifo", pipe->write_end.get(), not_lost);
  REQUIRE(pump);
  const auto idle = (*pump)->drain(kSoon, 1ms);  // no writer so far: not ended
  REQUIRE_FALSE(idle);
  CHECK(idle.error().code == base::Code::kUnavailable);
  {
    const auto writer = base::open_file(dir / "fifo", O_WRONLY);
    const auto other = base::open_file(dir / "fifo", O_WRONLY);
    REQUIRE(base::write_all(kSoon, writer->get(), "one "));
    REQUIRE(base::write_all(kSoon, other->get(), "two"));
  }
  CHECK((*pump)->drain(kSoon, 10s));
  pipe->write_end.reset();
  CHECK(base::read_to_end(kSoon, pipe->read_end.get(), 1 << 20, "pipe").value_or(std::string()) == "one two");
}

TEST_CASE("a reader that goes away is told, once, and does not hold up the writer") {
  ::signal(SIGPIPE, SIG_IGN);
  const tests::TempDir dir;
  auto pipe = base::make_pipe();
  std::vector<int> lost;
  const auto pump = cli::FifoPump::start(dir / "fifo", pipe->write_end.get(),
                                         [&](const base::Error& why) { lost.push_back(why.sys_errno); });
  REQUIRE(pump);
  pipe->read_end.reset();
  {
    const auto writer = base::open_file(dir / "fifo", O_WRONLY);
    REQUIRE(base::write_all(kSoon, writer->get(), std::string(4 << 20, 'x')));  // many times what the FIFO holds
  }
  CHECK((*pump)->drain(kSoon, 10s));
  CHECK(lost == std::vector<int>{EPIPE});
  ::signal(SIGPIPE, SIG_DFL);
}

TEST_CASE("a reader that takes its time gets all of it") {
  const tests::TempDir dir;
  auto pipe = base::make_pipe();
  const std::string text(100'000, 'x');  // more than the pipe holds, less than with the FIFO and the chunk under way
  {
    const auto pump = cli::FifoPump::start(dir / "fifo", pipe->write_end.get(), not_lost);
    REQUIRE(pump);
    REQUIRE(base::write_all(kSoon, base::open_file(dir / "fifo", O_WRONLY)->get(), text));
    const auto waited = (*pump)->drain(Context::background().with_timeout(300ms), 10ms);
    REQUIRE_FALSE(waited);
    CHECK(waited.error().code == base::Code::kDeadlineExceeded);  // not for want of output
    std::string got(text.size(), '\0');
    for (std::size_t size = 0; size < got.size();) {
      size += base::read_some(kSoon, pipe->read_end.get(), std::span(got).subspan(size)).value_or(got.size());
    }
    CHECK(got == text);
    CHECK((*pump)->drain(kSoon, 10s));
  }
  // One that never reads does not hold up our end.
  const auto pump = cli::FifoPump::start(dir / "other", pipe->write_end.get(), not_lost);
  REQUIRE(pump);
  REQUIRE(base::write_all(kSoon, base::open_file(dir / "other", O_WRONLY)->get(), text));
}

TEST_CASE("so is a full disk") {
  const tests::TempDir dir;
  const auto full = base::open_file("/dev/full", O_WRONLY);
  REQUIRE(full);
  std::vector<int> lost;
  const auto pump =
      cli::FifoPump::start(dir / "fifo", full->get(), [&](const base::Error& why) { lost.push_back(why.sys_errno); });
  REQUIRE(pump);
  {
    const auto writer = base::open_file(dir / "fifo", O_WRONLY);
    REQUIRE(base::write_all(kSoon, writer->get(), "x"));
  }
  CHECK((*pump)->drain(kSoon, 10s));
  CHECK(lost == std::vector<int>{ENOSPC});
}

TEST_CASE("a pump can be stopped while nobody writes, and needs a place of its own") {
  const tests::TempDir dir;
  CHECK(cli::FifoPump::start(dir / "fifo", 1, not_lost));
  CHECK_FALSE(cli::FifoPump::start(dir / "fifo", 1, not_lost));  // it exists
}

TEST_CASE("without a thread there is no pump") {
  const tests::TempDir dir;
  ::chmod(dir.path().c_str(), 0777);
  CHECK(tests::without_threads([&] {
    const auto pump = cli::FifoPump::start(dir / "fifo", 1, not_lost);
    return !pump && pump.error().code == base::Code::kResourceExhausted;
  }));
}
