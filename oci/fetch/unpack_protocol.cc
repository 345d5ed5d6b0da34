#include "oci/fetch/unpack_protocol.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstring>
#include <utility>

#include "base/json.h"
#include "oci/image_config.h"

namespace oci::fetch {

namespace {

using base::Json;

/// A text longer than this says no more, and would not fit into a packet.
constexpr std::size_t kMessageBytesMax = 8u << 10;

Json to_json(const StoreIs& message);
Json to_json(const StartUnpack& message);
Json to_json(const UnpackLayer& message);
Json to_json(const SettleLayers& message);
Json to_json(const UnpackStarted&);
Json to_json(const UnpackEnded& message);
Json to_json(const UnpackReady&);
Json to_json(const LayerUnpacked& message);
Json to_json(const UnpackFailed& message);
Json to_json(const UnpackWarning& message);
Json to_json(const LayersSettled&);
base::Result<UnpackMessage> from_json(const Json& document);

union Control {
  cmsghdr header;  // for its alignment
  char bytes[CMSG_SPACE(kPacketFdsMax * sizeof(int))];
};

}  // namespace

std::string encode(const UnpackMessage& message) {
  return base::dump_json(std::visit([](const auto& kind) { return to_json(kind); }, message));
}

base::Result<UnpackMessage> decode_unpack_message(std::string_view packet) {
  base::JsonLimits limits;
  limits.bytes_max = kPacketBytesMax;
  limits.depth_max = 4;
  TRY(const Json document, base::parse_json(packet, "packet", limits));
  if (!document.is_object() || document.size() != 1)
    return base::Error::invalid_argument("packet: not an object with one member");
  return from_json(document);
}

base::Result<std::pair<base::Fd, base::Fd>> make_packet_sockets() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return base::Error::from_errno(errno, "making a socket pair");
  }
  return std::pair(base::Fd(ends[0]), base::Fd(ends[1]));
}

base::Status send_packet(const base::Context& ctx, int socket, const UnpackMessage& message,
                         std::initializer_list<int> fds) {
  CHECK(fds.size() <= kPacketFdsMax);
  std::string text = encode(message);
  CHECK(text.size() <= kPacketBytesMax);
  iovec part{text.data(), text.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  Control control{};
  if (fds.size() > 0) {
    header.msg_control = control.bytes;
    header.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* const rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(rights), fds.begin(), fds.size() * sizeof(int));
  }
  for (;;) {
    if (::sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return {};
    if (errno == EAGAIN) {
      TRY_VOID(base::wait_fd(ctx, socket, base::Wait::kWritable));
    } else if (errno != EINTR) {
      return base::Error::from_errno(errno, "sending to the unpack stage");
    }
  }
}

base::Result<std::optional<UnpackPacket>> receive_packet(const base::Context& ctx, int socket) {
  std::string text(kPacketBytesMax, '\0');
  for (;;) {
    iovec part{text.data(), text.size()};
    Control control{};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control.bytes;
    header.msg_controllen = sizeof control.bytes;
    const ssize_t size = ::recvmsg(socket, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (size < 0 && errno == EAGAIN) {
      TRY_VOID(base::wait_fd(ctx, socket, base::Wait::kReadable));
      continue;
    }
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == ECONNRESET) return std::optional<UnpackPacket>();  // ended with packets of ours unread
    if (size < 0) return base::Error::from_errno(errno, "receiving from the unpack stage");
    std::vector<base::Fd> fds;
    for (cmsghdr* part_of = CMSG_FIRSTHDR(&header); part_of != nullptr; part_of = CMSG_NXTHDR(&header, part_of)) {
      if (part_of->cmsg_level != SOL_SOCKET || part_of->cmsg_type != SCM_RIGHTS) continue;
      for (std::size_t i = 0; CMSG_LEN((i + 1) * sizeof(int)) <= part_of->cmsg_len; ++i) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(part_of) + i * sizeof(int), sizeof fd);
        fds.emplace_back(fd);
      }
    }
    if (size == 0) return std::optional<UnpackPacket>();
    if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) return base::Error::invalid_argument("packet: truncated");
    TRY(auto message, decode_unpack_message(std::string_view(text).substr(0, static_cast<std::size_t>(size))));
    return std::optional(UnpackPacket{std::move(message), std::move(fds)});
  }
}

namespace {

std::string cut(const std::string& text) {
  return text.substr(0, kMessageBytesMax);
}

Json to_json(const StoreIs& message) {
  return {{"data_dir", message.data_dir}};
}
Json to_json(const StartUnpack& message) {
  return {{"start", {{"folder", message.folder}, {"layers", message.layers}}}};
}
Json to_json(const UnpackLayer& message) {
  return {{"layer", {{"number", message.number}, {"name", cut(message.name)}, {"bytes", message.bytes}}}};
}
Json to_json(const SettleLayers& message) {
  Json from = Json::array();
  for (const LayerFrom layer : message.from) from.push_back(layer == LayerFrom::kStaged ? "staged" : "stored");
  return {{"settle", {{"from", std::move(from)}}}};
}
Json to_json(const UnpackStarted&) {
  return {{"started", true}};
}
Json to_json(const UnpackEnded& message) {
  return {{"ended", message.signal}};
}
Json to_json(const UnpackReady&) {
  return {{"ready", true}};
}
Json to_json(const LayerUnpacked& message) {
  return {{"unpacked", {{"number", message.number}, {"diff_id", message.diff_id.text()}}}};
}
Json to_json(const UnpackFailed& message) {
  return {{"failed",
           {{"number", message.number},
            {"code", static_cast<int>(message.error.code)},
            {"message", cut(message.error.message)}}}};
}
Json to_json(const UnpackWarning& message) {
  return {{"warning", cut(message.text)}};
}
Json to_json(const LayersSettled&) {
  return {{"settled", true}};
}

base::Result<std::string> text_of(const Json& object, std::string_view key) {
  TRY(auto text, base::get_string(object, key));
  if (!text) return base::Error::invalid_argument(base::str("packet: no \"", key, "\""));
  return *std::move(text);
}

base::Result<std::int64_t> number_of(const Json& object, std::string_view key, std::int64_t min, std::int64_t max) {
  TRY(const auto number, base::get_int(object, key));
  if (!number || *number < min || *number > max) {
    return base::Error::invalid_argument(base::str("packet: \"", key, "\" is absent or out of range"));
  }
  return *number;
}

base::Result<int> layer_number(const Json& object, int min) {
  TRY(const auto number, number_of(object, "number", min, static_cast<std::int64_t>(kLayersMax) - 1));
  return static_cast<int>(number);
}

base::Result<UnpackMessage> start_unpack(const Json& body) {
  StartUnpack request;
  TRY(request.folder, text_of(body, "folder"));
  if (request.folder.empty() || request.folder.front() == '.' || request.folder.find('/') != std::string::npos) {
    return base::Error::invalid_argument("packet: \"folder\" is not a valid name");
  }
  TRY(auto layers, base::get_string_list(body, "layers"));
  request.layers = std::move(layers).value_or(std::vector<std::string>());
  if (request.layers.size() > kLayersMax) return base::Error::invalid_argument("packet: too many layers");
  for (const std::string& hex : request.layers) {
    TRY([[maybe_unused]] const Digest chain_id, Digest::parse(base::str("sha256:", hex)));
  }
  return UnpackMessage(std::move(request));
}

base::Result<UnpackMessage> settle_layers(const Json& body) {
  TRY(const auto from, base::get_string_list(body, "from"));
  SettleLayers settle;
  for (const std::string& text : from.value_or(std::vector<std::string>())) {
    if (text != "staged" && text != "stored")
      return base::Error::invalid_argument("packet: a layer is neither \"staged\" nor \"stored\"");
    settle.from.push_back(text == "staged" ? LayerFrom::kStaged : LayerFrom::kStored);
  }
  if (settle.from.size() > kLayersMax) return base::Error::invalid_argument("packet: too many layers");
  return UnpackMessage(std::move(settle));
}

base::Result<UnpackMessage> from_object(const std::string& kind, const Json& body) {
  if (kind == "start") return start_unpack(body);
  if (kind == "settle") return settle_layers(body);
  if (kind == "layer") {
    UnpackLayer layer;
    TRY(layer.number, layer_number(body, 0));
    TRY(layer.name, text_of(body, "name"));
    TRY(const auto bytes, number_of(body, "bytes", 1, std::int64_t{1} << 40));
    layer.bytes = static_cast<std::uint64_t>(bytes);
    return UnpackMessage(std::move(layer));
  }
  if (kind == "unpacked") {
    TRY(const int number, layer_number(body, 0));
    TRY(const auto text, text_of(body, "diff_id"));
    TRY(auto diff_id, Digest::parse(text));
    return UnpackMessage(LayerUnpacked{number, std::move(diff_id)});
  }
  if (kind == "failed") {
    UnpackFailed failed;
    TRY(failed.number, layer_number(body, -1));
    TRY(const auto code, number_of(body, "code", 1, 16));
    failed.error.code = base::code_from_int(code);
    TRY(failed.error.message, text_of(body, "message"));
    return UnpackMessage(std::move(failed));
  }
  return base::Error::invalid_argument("packet: unknown message");
}

base::Result<UnpackMessage> from_json(const Json& document) {
  const std::string kind = document.begin().key();
  const Json& body = document.begin().value();
  if (body.is_object()) return from_object(kind, body);
  if (kind == "data_dir" || kind == "warning") {
    TRY(auto text, text_of(document, kind));
    if (kind == "warning") return UnpackMessage(UnpackWarning{std::move(text)});
    return UnpackMessage(StoreIs{std::move(text)});
  }
  if (kind == "ended") {
    TRY(const auto signal, number_of(document, kind, 0, 128));
    return UnpackMessage(UnpackEnded{static_cast<int>(signal)});
  }
  if (kind == "started") return UnpackMessage(UnpackStarted{});
  if (kind == "ready") return UnpackMessage(UnpackReady{});
  if (kind == "settled") return UnpackMessage(LayersSettled{});
  return base::Error::invalid_argument("packet: unknown message");
}

}  // namespace

}  // namespace oci::fetch
