#include "base/log.h"

#include <doctest/doctest.h>

#include "base/json.h"

TEST_CASE("a line is what the agent's hclog parser wants: strings, six fractional digits") {
  CHECK_EQ(
      base::format_hclog(base::LogLevel::kInfo, "task started", {{"task", "a/b"}, {"pid", 7}}, 1767323045000006),
      R"({"@level":"info","@message":"task started","@timestamp":"2026-01-02T03:04:05.000006Z","task":"a/b","pid":"7"})");
}

TEST_CASE("UTF-8 is written as it is; any other bytes give valid JSON that no terminal obeys") {
  const std::string line =
      base::format_hclog(base::LogLevel::kWarn, "größe 日本 \" \\ \n \xff \x1b[2J", {{"k\"", "\xe2\x80\xaetxt"}}, 0);
  CHECK_NE(line.find("größe 日本"), std::string::npos);
  const auto json = base::parse_json(line, "line");
  REQUIRE(json.has_value());
  CHECK_EQ((*json)["@message"].get<std::string>(), "größe 日本 \" \\ \\n \\xff \\x1b[2J");
  CHECK_EQ((*json)["k\""].get<std::string>(), "\\u{202e}txt");
}

TEST_CASE("levels below the least are off") {
  base::set_log(base::LogLevel::kWarn, base::LogFormat::kHclog);
  CHECK_FALSE(base::log_enabled(base::LogLevel::kInfo));
  CHECK(base::log_enabled(base::LogLevel::kError));
  base::set_log(base::LogLevel::kInfo, base::LogFormat::kHclog);
}
