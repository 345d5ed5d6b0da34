#include "oci/fetch/unpack_protocol.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <thread>

#include "oci/image_config.h"

using base::Context;
using namespace oci::fetch;

namespace {

const std::string kHex(64, 'a');

std::string round(const UnpackMessage& message) {
  const auto decoded = decode_unpack_message(encode(message));
  return decoded ? encode(*decoded) : decoded.error().message;
}

}  // namespace

TEST_CASE("packets are what the header says") {
  const struct {
    UnpackMessage message;
    std::string text;
  } cases[] = {
      {StoreIs{"/var/lib/x"}, R"({"data_dir":"/var/lib/x"})"},
      {StartUnpack{"layers-1-0", {kHex}}, R"({"start":{"folder":"layers-1-0","layers":[")" + kHex + R"("]}})"},
      {UnpackLayer{2, "layer x", 12}, R"({"layer":{"bytes":12,"name":"layer x","number":2}})"},
      {SettleLayers{{LayerFrom::kStored, LayerFrom::kStaged}}, R"({"settle":{"from":["stored","staged"]}})"},
      {UnpackStarted{}, R"({"started":true})"},
      {UnpackEnded{9}, R"({"ended":9})"},
      {UnpackReady{}, R"({"ready":true})"},
      {LayerUnpacked{1, *oci::Digest::parse("sha256:" + kHex)},
       R"({"unpacked":{"diff_id":"sha256:)" + kHex + R"(","number":1}})"},
      {UnpackFailed{-1, base::Error::data_loss("why")}, R"({"failed":{"code":15,"message":"why","number":-1}})"},
      {UnpackWarning{"w"}, R"({"warning":"w"})"},
      {LayersSettled{}, R"({"settled":true})"},
  };
  for (const auto& c : cases) {
    CHECK_EQ(encode(c.message), c.text);
    CHECK_EQ(round(c.message), c.text);
  }
}

TEST_CASE("packets of a stranger are refused") {
  const std::string last = std::to_string(oci::kLayersMax - 1);
  CHECK(decode_unpack_message(R"({"layer":{"number":)" + last + R"(,"name":"x","bytes":1}})").has_value());
  for (const std::string& text : {
           std::string(),
           std::string("[]"),
           std::string("{}"),
           std::string(R"({"ready":true,"settled":true})"),
           std::string(R"({"nonsense":true})"),
           std::string(R"({"data_dir":7})"),
           std::string(R"({"ended":-1})"),
           std::string(R"({"start":{"layers":[]}})"),
           std::string(R"({"start":{"folder":"..","layers":[]}})"),
           std::string(R"({"start":{"folder":"a/b","layers":[]}})"),
           std::string(R"({"start":{"folder":"","layers":[]}})"),
           std::string(R"({"start":{"folder":"x","layers":["../../etc"]}})"),
           std::string(R"({"layer":{"number":128,"name":"x","bytes":1}})"),
           std::string(R"({"layer":{"number":-1,"name":"x","bytes":1}})"),
           std::string(R"({"layer":{"number":1,"name":"x","bytes":0}})"),
           std::string(R"({"unpacked":{"number":1,"diff_id":"sha256:x"}})"),
           std::string(R"({"failed":{"number":1,"code":0,"message":"x"}})"),
           std::string(R"({"failed":{"number":1,"code":17,"message":"x"}})"),
           std::string(R"({"settle":{"from":["elsewhere"]}})"),
           R"({"warning":")" + std::string(kPacketBytesMax, 'x') + R"("})",
       }) {
    CAPTURE(text.substr(0, 80));
    CHECK_FALSE(decode_unpack_message(text).has_value());
  }
}

TEST_CASE("a long message is cut, not refused") {
  const std::string text = round(UnpackFailed{0, base::Error::internal(std::string(1 << 20, '"'))});
  CHECK_LE(text.size(), kPacketBytesMax);
  CHECK(text.starts_with(R"({"failed":)"));
}

TEST_CASE("packets bring their descriptors, and an end") {
  auto sockets = *make_packet_sockets();
  auto pipe = *base::make_pipe();
  REQUIRE(send_packet(Context::cleanup(), sockets.first.get(), UnpackLayer{0, "x", 1},
                      {pipe.read_end.get(), pipe.write_end.get()})
              .has_value());
  REQUIRE(send_packet(Context::cleanup(), sockets.first.get(), UnpackReady{}).has_value());
  auto packet = *receive_packet(Context::cleanup(), sockets.second.get());
  REQUIRE(packet.has_value());
  REQUIRE_EQ(packet->fds.size(), 2);
  REQUIRE_EQ(::write(packet->fds[1].get(), "!", 1), 1);
  char byte = 0;
  REQUIRE_EQ(::read(pipe.read_end.get(), &byte, 1), 1);
  CHECK_EQ(byte, '!');
  packet = *receive_packet(Context::cleanup(), sockets.second.get());
  REQUIRE(packet.has_value());
  CHECK(packet->fds.empty());
  const auto none =
      receive_packet(Context::background().with_timeout(std::chrono::milliseconds(20)), sockets.second.get());
  CHECK_EQ(none.error().code, base::Code::kDeadlineExceeded);
  sockets.first.reset();
  CHECK_FALSE(receive_packet(Context::cleanup(), sockets.second.get())->has_value());
}
