// clang-format off
#include "cli/printer.h"

#include <doctest/doctest.h>  // after base/result.h: both have a CHECK
// clang-format on
#include <fcntl.h>
#include <signal.h>

#include <sstream>

#include "base/file.h"
#include "base/json.h"

namespace {

constexpr char kHostile[] =
    "a\x1b[2J\xe2\x80\xae"
    "b\n";
constexpr char kShown[] = "a\\x1b[2J\\u{202e}b\\n";

}  // namespace

TEST_CASE("what others wrote is escaped wherever it is printed") {
  std::ostringstream out;
  std::ostringstream err;
  cli::Io io{out, err};
  cli::print_line(io, kHostile);
  CHECK(out.str() == std::string(kShown) + "\n");
  out.str("");
  cli::print_rows(io, {{"A", "B"}, {kHostile, kHostile}});
  CHECK(out.str() ==
        std::string("A") + std::string(std::string(kShown).size() + 1, ' ') + "B\n" + kShown + "  " + kShown + "\n");
  CHECK(cli::fail(io, base::Error::not_found(kHostile), 7) == 7);
  CHECK(err.str() == std::string("containerd-driver: ") + kShown + "\n");
}

TEST_CASE("JSON stays JSON, with nothing in it that a terminal obeys") {
  std::ostringstream out;
  std::ostringstream err;
  cli::Io io{out, err};
  const base::Json value = {{"label", kHostile}};
  for (const auto print : {cli::print_json, cli::print_json_line}) {
    out.str("");
    print(io, value);
    CHECK(out.str().find('\x1b') == std::string::npos);
    CHECK(out.str().find("\xe2\x80\xae") == std::string::npos);
    const auto read = base::parse_json(out.str(), "output");
    REQUIRE(read);
    CHECK(*read == value);
  }
}

TEST_CASE("an output that takes no more makes the stream bad and says why") {
  const auto full = base::open_file("/dev/full", O_WRONLY);
  REQUIRE(full);
  cli::OutputBuffer buffer(full->get());
  std::ostream out(&buffer);
  out << "x";
  CHECK(out);  // it is still in the buffer
  out.flush();
  CHECK_FALSE(out);
  REQUIRE(buffer.error());
  CHECK(buffer.error()->sys_errno == ENOSPC);

  ::signal(SIGPIPE, SIG_IGN);
  auto pipe = base::make_pipe();
  pipe->read_end.reset();
  cli::OutputBuffer broken(pipe->write_end.get());
  std::ostream more(&broken);
  more << std::string(1 << 20, 'x');  // more than a buffer
  CHECK_FALSE(more);
  CHECK(broken.error()->sys_errno == EPIPE);
  ::signal(SIGPIPE, SIG_DFL);
}

TEST_CASE("what fits comes out in order") {
  auto pipe = base::make_pipe();
  std::string want;
  {
    cli::OutputBuffer buffer(pipe->write_end.get());
    std::ostream out(&buffer);
    for (int i = 0; i < 5000; ++i) {
      out << i << '\n';
      want += std::to_string(i) + "\n";
    }
  }
  pipe->write_end.reset();
  CHECK(base::read_to_end(base::Context::background(), pipe->read_end.get(), 1 << 20, "pipe").value_or(std::string()) ==
        want);
}

TEST_CASE("sizes and ages for people") {
  CHECK(cli::show_size(0) == "0 B");
  CHECK(cli::show_size(999) == "999 B");
  CHECK(cli::show_size(1000) == "1.0 kB");
  CHECK(cli::show_size(54'321'000) == "54.3 MB");
  CHECK(cli::show_size(999'999'999) == "1000 MB");
  CHECK(cli::show_size(7'700'000'000) == "7.7 GB");
  CHECK(cli::show_age(std::chrono::seconds(-5)) == "0s");
  CHECK(cli::show_age(std::chrono::seconds(119)) == "119s");
  CHECK(cli::show_age(std::chrono::seconds(120)) == "2m");
  CHECK(cli::show_age(std::chrono::hours(5)) == "5h");
  CHECK(cli::show_age(std::chrono::hours(72)) == "3d");
  const std::vector<std::pair<std::int64_t, std::string>> durations = {
      {-5, "Less than a second"}, {0, "Less than a second"}, {1, "1 second"},         {59, "59 seconds"},
      {60, "About a minute"},     {120, "2 minutes"},        {3600, "About an hour"}, {7200, "2 hours"},
      {200'000, "2 days"},        {1'300'000, "2 weeks"},    {6'000'000, "2 months"}, {80'000'000, "2 years"}};
  for (const auto& [seconds, want] : durations) CHECK(cli::show_duration(std::chrono::seconds(seconds)) == want);
}

TEST_CASE("columns") {
  CHECK(cli::table({{"A", "B"}, {"long", "x"}}) == "A     B\nlong  x\n");
  CHECK(cli::table({}).empty());
  CHECK(cli::table({{"größe", "x"}, {"abc", "y"}}) == "größe  x\nabc    y\n");
}
