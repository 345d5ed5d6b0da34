// What the fetch stage and the unpack stage say to each other (sandbox.h has the stages), as JSON in the packets of a
// unix socket, with descriptors beside some of them. Both sides take the other's packets for what a stranger may have
// written: bounded, checked, and without a name in them that could lead anywhere.
//
//   fetch → starter   {"data_dir":"/var/lib/…"}                                   once, before outside data is read
//                     {"start":{"folder":"layers-17-0","layers":["<chain id>",…]}}  + a socket, for an unpack stage
//   starter → fetch   {"started":true}                                              + a pidfd of that stage
//                     {"ended":9}                                                   it is gone; the signal, 0 if none
//
//   fetch → unpack    {"layer":{"number":2,"name":"layer sha256:…","bytes":123}}  + the compressed bytes, read-only,
//                                                                                   + a pipe that tells of growth
//                     {"settle":{"from":["stored","staged",…]}}                   the image's layers, bottom first
//   unpack → fetch    {"ready":true}                                                shut in; or "failed"
//                     {"unpacked":{"number":2,"diff_id":"sha256:…"}}
//                     {"failed":{"number":2,"code":15,"message":"…"}}             -1 = no layer in particular
//                     {"warning":"…"}
//                     {"settled":true}
//
// Staged layers are unpacked into the folder "<number>" of the staging folder, which the fetch stage has made.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/context.h"
#include "base/fd.h"
#include "base/result.h"
#include "oci/digest.h"

namespace oci::fetch {

constexpr std::size_t kPacketBytesMax = 64u << 10;
constexpr std::size_t kPacketFdsMax = 2;

struct StoreIs {
  std::string data_dir;
};
struct StartUnpack {
  std::string folder;               ///< in ingest/: one component
  std::vector<std::string> layers;  ///< chain ids in hex of the layers that are in the store, bottom first
};
struct UnpackLayer {
  int number = 0;    ///< counts all layers of the image from the bottom
  std::string name;  ///< for messages
  std::uint64_t bytes = 0;
};
enum class LayerFrom : bool { kStored, kStaged };
struct SettleLayers {
  std::vector<LayerFrom> from;
};
struct UnpackStarted {};
struct UnpackEnded {
  int signal = 0;
};
struct UnpackReady {};
struct LayerUnpacked {
  int number = 0;
  Digest diff_id;
};
struct UnpackFailed {
  int number = -1;
  base::Error error;
};
struct UnpackWarning {
  std::string text;
};
struct LayersSettled {};

using UnpackMessage = std::variant<StoreIs, StartUnpack, UnpackLayer, SettleLayers, UnpackStarted, UnpackEnded,
                                   UnpackReady, LayerUnpacked, UnpackFailed, UnpackWarning, LayersSettled>;

/// Pure. decode: kInvalidArgument for what encode does not write.
std::string encode(const UnpackMessage& message);
base::Result<UnpackMessage> decode_unpack_message(std::string_view packet);

struct UnpackPacket {
  UnpackMessage message;
  std::vector<base::Fd> fds;
};
/// Both ends close-on-exec.
base::Result<std::pair<base::Fd, base::Fd>> make_packet_sockets();
/// threads: any, one packet never mixes with another.
base::Status send_packet(const base::Context& ctx, int socket, const UnpackMessage& message,
                         std::initializer_list<int> fds = {});
/// nullopt: the other side is gone.
base::Result<std::optional<UnpackPacket>> receive_packet(const base::Context& ctx, int socket);

}  // namespace oci::fetch
