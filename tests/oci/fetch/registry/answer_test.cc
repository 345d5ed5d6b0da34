#include "oci/fetch/registry/answer.h"

#include <doctest/doctest.h>

using base::Code;
using oci::fetch::HttpResponse;
using oci::fetch::reason_in;

namespace {

HttpResponse answer(int status, const std::string& header = "", const std::string& value = "") {
  HttpResponse out;
  out.status = status;
  if (!header.empty()) out.headers[header] = {value};
  return out;
}

}  // namespace

TEST_CASE("a registry's reason: whatever it is written as, and nothing that a terminal obeys") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"errors":[{"code":"DENIED","message":"not for you"}]})", "not for you"},
      {R"({"errors":[{"code":"DENIED","message":""},{"code":"X"},{"detail":"d"}]})", "DENIED; X"},
      {R"({"errors":[{"message":"1"},{"message":"2"},{"message":"3"},{"message":"4"}]})", "1; 2; 3"},
      {R"({"errors":[{"code":7,"message":null}, null, 5, "text", {"message":"last"}]})", "last"},
      {R"({"errors":[]})", ""},
      {R"({"errors":null,"message":"top"})", "top"},
      {R"({"details":"incorrect username or password"})", "incorrect username or password"},
      {R"({"error":"invalid_grant","error_description":"expired"})", "expired"},
      {R"({"error":{"code":1}})", ""},
      {R"({"errors":[{"message":"a\nb\u001b[31m\u202e"}]})", "a b [31m\\u{202e}"},
      {"<html>denied</html>", ""},
      {"", ""},
      {"[]", ""},
  };
  for (const auto& [body, reason] : cases) {
    const auto& given = body;  // clang 14 cannot capture a binding
    CAPTURE(given);
    CHECK_EQ(reason_in(body, {}), reason);
  }
  const std::string endless = R"({"errors":[{"message":")" + std::string(5000, 'x') + R"("}]})";
  CHECK_EQ(reason_in(endless, {}).size(), oci::fetch::kReasonBytesMax);
}

TEST_CASE("no secret is in a reason, also not a part of one that was cut") {
  const std::string body = R"({"errors":[{"message":"bad s3cret, s3cret and Bearer t0ken"}]})";
  CHECK_EQ(reason_in(body, {"s3cret", "", "t0ken"}), "bad ***, *** and Bearer ***");
  const std::string at_the_end =
      R"({"errors":[{"message":")" + std::string(oci::fetch::kReasonBytesMax - 3, 'x') + R"(s3cret"}]})";
  CHECK(reason_in(at_the_end, {"s3cret"}).find("s3") == std::string::npos);
}

TEST_CASE("where a part begins: at the asked place, or it is the whole") {
  struct Case {
    int status;
    const char* range;
    std::uint64_t asked;
    std::int64_t start;  ///< -1: refused
  };
  const Case cases[] = {
      {200, "", 0, 0},
      {200, "", 500, 0},
      {206, "bytes 500-999/1000", 500, 500},
      {206, "Bytes 500-999/*", 500, 500},
      {206, "bytes 0-999/1000", 0, 0},
      {206, "bytes 0-99/1000", 0, 0},
      {206, "bytes 0-999/1000", 500, 0},
      {206, "", 0, 0},
      {206, "", 500, -1},
      {206, "bytes 400-999/1000", 500, -1},
      {206, "bytes 500-999/2000", 500, -1},
      {206, "bytes 50000-999/1000", 500, -1},
      {206, "lines 500-999/1000", 500, -1},
      {206, "bytes */1000", 500, -1},
      {206, "bytes 0", 0, -1},
  };
  for (const Case& c : cases) {
    CAPTURE(c.range);
    CAPTURE(c.asked);
    const auto head = c.range[0] == '\0' ? answer(c.status) : answer(c.status, "content-range", c.range);
    const auto start = oci::fetch::range_start(head, c.asked, 1000);
    CHECK_EQ(start.has_value(), c.start >= 0);
    if (start) CHECK_EQ(static_cast<std::int64_t>(*start), c.start);
  }
}

TEST_CASE("encodings that change bytes, and words that do not") {
  for (const char* none : {"", "identity", "Identity", "aws-chunked", "binary", "utf-8", "none"}) {
    CHECK(oci::fetch::check_encoding(answer(200, "content-encoding", none)));
  }
  CHECK(oci::fetch::check_encoding(answer(200)));
  for (const char* coding : {"gzip", "GZIP", "aws-chunked, gzip", "br", "zstd", "deflate,identity"}) {
    CAPTURE(coding);
    const auto refused = oci::fetch::check_encoding(answer(200, "content-encoding", coding));
    REQUIRE_FALSE(refused);
    CHECK_EQ(refused.error().code, Code::kFailedPrecondition);
  }
}

TEST_CASE("when to ask again") {
  using std::chrono::seconds;
  CHECK_EQ(oci::fetch::parse_retry_after(""), seconds(0));
  CHECK_EQ(oci::fetch::parse_retry_after("7"), seconds(7));
  CHECK_EQ(oci::fetch::parse_retry_after("100000"), oci::fetch::kRetryAfterMax);
  CHECK_EQ(oci::fetch::parse_retry_after("-1"), seconds(0));
  CHECK_EQ(oci::fetch::parse_retry_after("soon"), seconds(0));
  CHECK_EQ(oci::fetch::parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), seconds(0));
}
