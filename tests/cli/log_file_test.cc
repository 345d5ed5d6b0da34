#include "cli/log_file.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "cli/log_reader.h"
#include "tests/temp_dir.h"

using cli::LogEntry;
using cli::LogTime;
using namespace std::chrono_literals;

TEST_CASE("an entry is written and read as Kubernetes has it") {
  const LogTime time(1764306611s + 123456789ns);
  for (const bool is_stderr : {false, true}) {
    for (const bool ends_line : {false, true}) {
      const std::string line = cli::format_log_entry({time, is_stderr, ends_line, "some text"});
      CHECK(line == base::str("2025-11-28T05:10:11.123456789Z ", is_stderr ? "stderr " : "stdout ",
                              ends_line ? "F " : "P ", "some text\n"));
      const auto entry = cli::parse_log_entry(std::string_view(line).substr(0, line.size() - 1));
      REQUIRE(entry.has_value());
      CHECK(entry->time == time);
      CHECK(entry->is_stderr == is_stderr);
      CHECK(entry->ends_line == ends_line);
      CHECK(entry->text == "some text");
    }
  }
}

TEST_CASE("what is no entry is none") {
  for (const char* line : {"", "text", "2025-11-28T05:10:11.123456789Z stdout F",
                           "2025-11-28 05:10:11.123456789Z stdout F x", "2025-11-28T05:10:11.123456789Z stdin  F x",
                           "2025-11-28T05:10:11.123456789Z stdout X x", "2025-11-28T05:10:11.12345678xZ stdout F x"}) {
    CAPTURE(line);
    CHECK_FALSE(cli::parse_log_entry(line).has_value());
  }
}

TEST_CASE("moments as docker and podman take them") {
  const auto now = std::chrono::system_clock::time_point(1764306611s);
  struct Row {
    const char* text;
    std::chrono::nanoseconds since_1970;
  };
  for (const Row& row :
       {Row{"10m", 1764306611s - 600s}, Row{"1h30m", 1764306611s - 5400s}, Row{"1.5h", 1764306611s - 5400s},
        Row{"0s", 1764306611s}, Row{"1764306611", 1764306611s}, Row{"1764306611.5", 1764306611s + 500ms},
        Row{"2025-11-28T05:10:11Z", 1764306611s}, Row{"2025-11-28T05:10:11.25Z", 1764306611s + 250ms},
        Row{"2025-11-28T06:10:11+01:00", 1764306611s}, Row{"2025-11-28T05:10:11", 1764306611s},
        Row{"2025-11-28", 1764288000s}}) {
    CAPTURE(row.text);
    const auto moment = cli::parse_log_moment(row.text, now);
    REQUIRE(moment.has_value());
    CHECK(moment->time_since_epoch() == row.since_1970);
  }
  CHECK(cli::parse_log_moment("2999-01-01T00:00:00Z", now) == LogTime::max());
  for (const char* text :
       {"", "yesterday", "10", "10x", "-5m", "2025-11-28 05:10:11", "2025-13", "1h30", "99999999999h"}) {
    CAPTURE(text);
    const bool number = std::string_view(text) == "10";
    CHECK(cli::parse_log_moment(text, now).has_value() == number);
  }
}

TEST_CASE("a log is cut into lines, and into two files that are bounded") {
  const tests::TempDir dir;
  const auto sink = cli::LogSink::open(dir.path());
  REQUIRE(sink.has_value());
  (*sink)->write(false, "one\ntwo");
  (*sink)->write(true, "\n" + std::string(cli::kLogLineBytesMax + 1, 'x') + "\n");
  const auto text = base::read_file(cli::log_path(dir.path()), 1u << 20);
  REQUIRE(text.has_value());
  std::vector<std::pair<std::string, std::size_t>> seen;
  for (std::size_t at = 0; at < text->size();) {
    const std::size_t end = text->find('\n', at);
    const auto entry = cli::parse_log_entry(std::string_view(*text).substr(at, end - at));
    REQUIRE(entry.has_value());
    seen.emplace_back(base::str(entry->is_stderr ? "err" : "out", entry->ends_line ? " F" : " P"), entry->text.size());
    at = end + 1;
  }
  CHECK(seen == std::vector<std::pair<std::string, std::size_t>>{
                    {"out F", 3}, {"out P", 3}, {"err F", 0}, {"err P", cli::kLogLineBytesMax}, {"err F", 1}});

  const std::string chunk(1u << 20, 'y');
  for (int i = 0; i < 25; ++i) (*sink)->write(false, chunk);
  for (const std::string& path : {cli::log_path(dir.path()), cli::older_log_path(dir.path())}) {
    CHECK(std::filesystem::file_size(path) <= cli::kLogBytesMax + chunk.size());
  }
}

TEST_CASE("a reader that begins at the end sees what comes then") {
  const std::string line = "2025-11-28T05:10:11.123456789Z stdout F ";
  const std::vector<std::pair<std::string, std::string>> before = {
      {"", ""}, {line + "old\n", ""}, {std::string(200'000, 'x') + "\n" + line, line}};
  for (const auto& [written, kept] : before) {
    const tests::TempDir dir;
    REQUIRE(base::write_file_atomic(cli::older_log_path(dir.path()), "older\n", 0600, base::Durable::kNo).has_value());
    REQUIRE(base::write_file_atomic(cli::log_path(dir.path()), written, 0600, base::Durable::kNo).has_value());
    cli::LogReader reader(dir.path());
    reader.skip_to_end();
    std::string got;
    CHECK_FALSE(reader.next(got));
    std::ofstream(cli::log_path(dir.path()), std::ios::app) << "new\n";
    REQUIRE(reader.next(got));
    CHECK(got == kept + "new");
    CHECK_FALSE(reader.next(got));
  }
}
