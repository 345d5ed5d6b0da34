// A gRPC client for tests: an nghttp2 client session on a blocking loop of its own, one thread, no library of ours.
// And the frames of HTTP/2 by hand, for saying what no client says.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/fd.h"

namespace tests {

using Fields = std::vector<std::pair<std::string, std::string>>;

/// What came back on one stream so far.
struct Reply {
  std::map<std::string, std::string> fields;  ///< of all header blocks, the last one wins
  std::vector<std::string> messages;
  bool ended = false;                  ///< END_STREAM, or the stream or connection is gone
  std::optional<std::uint32_t> reset;  ///< code of RST_STREAM
  int status() const;                  ///< grpc-status, -1 without one
  std::string message() const;         ///< grpc-message, decoded
  std::string details() const;         ///< grpc-status-details-bin, decoded
  std::string field(const std::string& name) const;
};

class GrpcClient {
 public:
  explicit GrpcClient(base::Fd socket);
  ~GrpcClient();

  /// The head of a call; `extra` replaces or adds fields.
  std::int32_t open(const std::string& path, const Fields& extra = {});
  void send(std::int32_t stream, std::string_view message);
  /// Bytes as they are, without a message's prefix.
  void send_raw(std::int32_t stream, std::string bytes);
  void half_close(std::int32_t stream);
  void reset(std::int32_t stream, std::uint32_t code);
  /// open, send, half_close.
  std::int32_t start(const std::string& path, std::string_view message, const Fields& extra = {});
  /// start, and the whole reply.
  Reply call(const std::string& path, std::string_view message, const Fields& extra = {});

  /// Reads and writes until `done` or the time is over; returns done(). Calls only queue what the socket does not take
  /// at once: whoever waits for the server's side waits with this.
  bool run_until(const std::function<bool()>& done, std::chrono::milliseconds limit = std::chrono::seconds(20));
  const Reply& wait_end(std::int32_t stream);
  /// The n-th message of a stream, "<none>" if it does not come.
  std::string wait_message(std::int32_t stream, std::size_t index);
  const Reply& reply(std::int32_t stream) const;
  bool connection_lost() const;
  std::optional<std::uint32_t> goaway() const;
  int fd() const;
  /// Stops giving windows back: the server may send no more than 64 KiB.
  void stop_consuming();

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
enum FrameType : std::uint8_t {
  kData = 0,
  kHeaders = 1,
  kPriority = 2,
  kRstStream = 3,
  kSettings = 4,
  kPing = 6,
  kGoaway = 7,
  kWindowUpdate = 8,
  kContinuation = 9,
};
std::string frame(std::uint8_t type, std::uint8_t flags, std::uint32_t stream, std::string_view payload);
/// A header block of literals without indexing and without Huffman codes.
std::string header_block(const Fields& fields);
/// The fields of a gRPC request.
Fields grpc_fields(const std::string& path);
/// Preface and an empty SETTINGS.
std::string hello();

struct SocketPair {
  base::Fd ours;
  base::Fd theirs;
};
SocketPair socket_pair();
/// Writes all, blocking up to 20 s; false if the peer is gone.
bool write_bytes(int fd, std::string_view bytes);
/// Everything until EOF or reset, up to 20 s.
std::string read_all(int fd);

}  // namespace tests
