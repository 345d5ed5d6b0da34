#include "grpc/wire.h"

#include <doctest/doctest.h>

using namespace std::chrono_literals;

namespace {

std::vector<std::string> read_in_pieces(const std::string& bytes, std::size_t piece) {
  grpc::MessageReader reader;
  std::vector<std::string> out;
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    const auto fed = reader.feed(std::string_view(bytes).substr(at, piece),
                                 [&out](std::string message) { out.push_back(std::move(message)); });
    REQUIRE(fed.has_value());
  }
  CHECK(reader.pending_bytes() == 0);
  return out;
}

base::Status feed(grpc::MessageReader& reader, std::string_view bytes) {
  return reader.feed(bytes, [](const std::string&) {});
}

}  // namespace

TEST_CASE("messages are framed with five bytes") {
  CHECK(grpc::frame_message("") == std::string(5, '\0'));
  CHECK(grpc::frame_message("abc") == std::string("\0\0\0\0\3abc", 8));
  CHECK(grpc::frame_message(std::string(0x010203, 'x')).substr(0, 5) == std::string("\0\0\1\2\3", 5));
}

TEST_CASE("messages are found whatever the pieces") {
  const std::string big(100'000, 'b');
  const std::string bytes = grpc::frame_message("one") + grpc::frame_message("") + grpc::frame_message(big);
  for (const std::size_t piece : {std::size_t{1}, std::size_t{4}, std::size_t{5}, std::size_t{7}, bytes.size()}) {
    CHECK(read_in_pieces(bytes, piece) == std::vector<std::string>{"one", "", big});
  }
}

TEST_CASE("an unfinished message is pending, nothing is reserved for it") {
  grpc::MessageReader reader;
  REQUIRE(feed(reader, std::string_view("\0\0\xff\xff\xff"
                                        "abc",
                                        8)));
  CHECK(reader.pending_bytes() == 8);
}

TEST_CASE("bad prefixes are refused before a byte of the message is taken") {
  grpc::MessageReader compressed, odd, large, limit;
  CHECK(feed(compressed, std::string_view("\1\0\0\0\1x", 6)).error().code == base::Code::kUnimplemented);
  CHECK(feed(odd, std::string_view("\2\0\0\0\1x", 6)).error().code == base::Code::kInternal);
  CHECK(feed(large, std::string_view("\0\1\0\0\1", 5)).error().code == base::Code::kResourceExhausted);
  CHECK(feed(limit, std::string_view("\0\1\0\0\0", 5)).has_value());  // exactly 16 MiB
  CHECK(large.pending_bytes() == 5);
}

TEST_CASE("grpc-timeout") {
  CHECK(grpc::parse_timeout("2S") == 2s);
  CHECK(grpc::parse_timeout("1999996u") == 1'999'996us);
  CHECK(grpc::parse_timeout("10M") == 10min);
  CHECK(grpc::parse_timeout("1H") == 1h);
  CHECK(grpc::parse_timeout("5m") == 5ms);
  CHECK(grpc::parse_timeout("0n") == 0ns);
  CHECK(grpc::parse_timeout("99999999H") > 24h * 365);
  for (const char* bad : {"", "S", "2", "-2S", "2s", "123456789S", "1.5S", "2S ", " 2S"}) {
    CHECK_MESSAGE(!grpc::parse_timeout(bad).has_value(), bad);
  }
}

TEST_CASE("content types") {
  for (const char* good : {"application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"}) {
    CHECK(grpc::is_grpc_content_type(good));
  }
  for (const char* bad : {"", "application/json", "application/grpc-web", "text/html", "application/grp"}) {
    CHECK_FALSE(grpc::is_grpc_content_type(bad));
  }
}

TEST_CASE("messages of errors are percent-encoded") {
  CHECK(grpc::percent_encode("plain text, ~ and space") == "plain text, ~ and space");
  CHECK(grpc::percent_encode("100%\n\x7f\xc3\xa4") == "100%25%0A%7F%C3%A4");
}
