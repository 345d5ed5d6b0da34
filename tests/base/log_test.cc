#include "base/log.h"

#include <doctest/doctest.h>

#include "base/json.h"

TEST_CASE("a line is what the agent's hclog parser wants: strings, six fractional digits") {
  CHECK_EQ(
      base::format_hclog(base::LogLevel::kInfo, "task started", {{"task", "a/b"}, {"pid", 7}}, 1767323045000006),
      R"({"@level":"info","@message":"task started","@timestamp":"2026-01-02T03:04:05.000006Z","task":"a/b","pid":"7"})");
}

TEST_CASE("any bytes give valid JSON") {
  const std::string line = base::format_hclog(base::LogLevel::kWarn, "quote \" slash \\ nl \n bad \xff", {}, 0);
  CHECK_EQ(line.find('\n'), std::string::npos);
  CHECK(base::parse_json(line, "line").has_value());
}

TEST_CASE("levels below the least are off") {
  base::set_log(base::LogLevel::kWarn, base::LogFormat::kHclog);
  CHECK_FALSE(base::log_enabled(base::LogLevel::kInfo));
  CHECK(base::log_enabled(base::LogLevel::kError));
  base::set_log(base::LogLevel::kInfo, base::LogFormat::kHclog);
}
