#include "oci/pull_protocol.h"

#include <doctest/doctest.h>

#include "oci/reference.h"

using base::Code;

TEST_CASE("requests and events survive the way") {
  const oci::HelperRequest request{"/data", "docker.io/a/b:c", {"user", "p\"ä\n"}, "/hosts"};
  const auto back = oci::decode_request(*oci::encode(request));
  REQUIRE(back.has_value());
  CHECK_EQ(back->data_dir, "/data");
  CHECK_EQ(back->reference, "docker.io/a/b:c");
  CHECK_EQ(back->credentials.password, "p\"ä\n");
  CHECK_EQ(back->hosts_dir, "/hosts");

  const oci::PullProgress progress{1, 2, 3, 4, {{oci::Digest::of_bytes("x"), 5, 6}}};
  CHECK_EQ(std::get<oci::PullProgress>(*oci::decode_event(oci::encode(oci::HelperEvent(progress)))), progress);
  CHECK_EQ(
      std::get<oci::HelperWarning>(*oci::decode_event(oci::encode(oci::HelperEvent(oci::HelperWarning{"w"})))).text,
      "w");
  CHECK(std::holds_alternative<oci::HelperDone>(*oci::decode_event(oci::encode(oci::HelperEvent(oci::HelperDone{})))));
  const auto line = oci::encode(oci::HelperEvent(base::Error::unavailable("two\nlines")));
  CHECK_EQ(line.find('\n'), line.size() - 1);
  const auto error = std::get<base::Error>(*oci::decode_event(line));
  CHECK_EQ(error.code, Code::kUnavailable);
  CHECK_EQ(error.message, "two\\nlines");
  CHECK_FALSE(back->confirm);
  oci::HelperRequest asking = request;
  asking.confirm = true;
  asking.platform = "linux/arm/v7";
  CHECK_EQ(oci::decode_request(*oci::encode(asking))->platform, "linux/arm/v7");
  CHECK(oci::decode_request(*oci::encode(asking))->confirm);
  CHECK_FALSE(oci::decode_request(*oci::encode(asking))->login);
  asking.login = true;
  CHECK(oci::decode_request(*oci::encode(asking))->login);
  CHECK_EQ(oci::encode(asking)->find('\n'), oci::encode(asking)->size() - 1);
  const oci::HelperResolved resolved{"docker.io/a/b:c", {"type", oci::Digest::of_bytes("x"), 7, {}, false}};
  const auto same = std::get<oci::HelperResolved>(*oci::decode_event(oci::encode(oci::HelperEvent(resolved))));
  CHECK_EQ(same.reference, resolved.reference);
  CHECK_EQ(same.image.media_type, "type");
  CHECK_EQ(same.image.digest, oci::Digest::of_bytes("x"));
  CHECK_EQ(same.image.size, 7);
}

TEST_CASE("no line is longer than what is read") {
  const auto digest = oci::Digest::of_bytes("x");
  const std::uint64_t size = oci::kBlobBytesMax;
  const std::string name(oci::kHostBytesMax + oci::kRepositoryPathBytesMax + oci::kTagBytesMax + 2, 'n');
  const std::string text(1 << 20, '\x01');
  const oci::HelperEvent longest[] = {
      oci::PullProgress{size, size, 128, 128, std::vector<oci::LayerProgress>(oci::kLayersMax, {digest, size, size})},
      oci::HelperDone{std::vector<std::string>(100, name)},  // as many as an archive may hold
      oci::HelperResolved{name, {std::string(255, 't'), digest, size, {}, false}},
      oci::HelperWarning{text},
      base::Error::internal(text),
  };
  for (const oci::HelperEvent& event : longest) {
    CAPTURE(event.index());
    const std::string line = oci::encode(event);
    CHECK_LE(line.size(), oci::kHelperLineBytesMax);
    const auto back = oci::decode_event(line);
    REQUIRE(back.has_value());
    CHECK_EQ(back->index(), event.index());
  }
  std::string umlauts;
  while (umlauts.size() <= oci::kHelperTextBytesMax) umlauts += "ä";
  const auto cut = oci::decode_event(oci::encode(oci::HelperEvent(oci::HelperWarning{umlauts})));
  CHECK(std::get<oci::HelperWarning>(*cut).text.ends_with("ä…"));
  CHECK_EQ(std::get<oci::HelperWarning>(*cut).text.find("\ufffd"), std::string::npos);

  oci::HelperRequest request{"/data", "docker.io/a/b:c", {"user", std::string(200'000, 'x')}, "/hosts"};
  CHECK(oci::decode_request(*oci::encode(request)).has_value());
  request.credentials.password += request.credentials.password;
  CHECK_EQ(oci::encode(request).error().code, Code::kInvalidArgument);
}

TEST_CASE("what the helper says is fit for a terminal") {
  const std::string hostile = "entry \x1b[2J\x1b]0;title\a\u202egnp";
  const auto warning = oci::decode_event(oci::encode(oci::HelperEvent(oci::HelperWarning{hostile})));
  CHECK_EQ(std::get<oci::HelperWarning>(*warning).text, "entry \\x1b[2J\\x1b]0;title\\x07\\u{202e}gnp");
  const auto error = oci::decode_event(oci::encode(oci::HelperEvent(base::Error::data_loss(hostile))));
  CHECK_EQ(std::get<base::Error>(*error).message, "entry \\x1b[2J\\x1b]0;title\\x07\\u{202e}gnp");
  const oci::Digest digest = oci::Digest::of_bytes("x");
  for (const char* name : {"a b", "a\nb", "a\x1b", "a\x7f"}) {
    CAPTURE(name);
    CHECK_FALSE(oci::decode_event(oci::encode(oci::HelperEvent(oci::HelperDone{{name}}))).has_value());
    CHECK_FALSE(oci::decode_event(oci::encode(oci::HelperEvent(oci::HelperResolved{name, {"t", digest, 1, {}, false}})))
                    .has_value());
    CHECK_FALSE(oci::decode_event(oci::encode(oci::HelperEvent(oci::HelperResolved{"a", {name, digest, 1, {}, false}})))
                    .has_value());
  }
}

TEST_CASE("what is not the protocol is an error, and never an event") {
  for (const char* line :
       {"", "hello", "[]", "{}", R"({"progress":1})", R"({"progress":{"bytes_done":-1}})",
        R"({"progress":{"bytes_done":1,"bytes_total":2,"layers_done":0,"layers_total":1,)"
        R"("under_way":[{"digest":"x","bytes_done":1,"bytes_total":2}]}})",
        R"({"progress":{"bytes_done":1,"bytes_total":2,"layers_done":0,"layers_total":1,"under_way":[1]}})",
        R"({"resolved":{"reference":"a","media_type":"b","digest":"c","size":1}})", R"({"error":{"code":"x"}})",
        R"({"error":{"code":3}})"}) {
    CAPTURE(line);
    CHECK_FALSE(oci::decode_event(line).has_value());
  }
  CHECK_FALSE(oci::decode_request(R"({"data_dir":"/d"})").has_value());
  CHECK_FALSE(oci::decode_request("").has_value());
}
