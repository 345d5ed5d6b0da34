// One ttrpc connection on the loop, for either role: frames in, frames out. What the frames mean is the business of
// client.h and server.h. Loop thread only.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "base/fd.h"
#include "base/loop.h"
#include "base/result.h"
#include "ttrpc/frame.h"

namespace ttrpc {

/// A peer that does not read must not make us hold its answers: beyond this many queued bytes the connection is closed.
inline constexpr std::size_t kQueuedWriteBytesMax = 16u << 20;

class Connection {
 public:
  struct Callbacks {
    std::function<void(Frame)> on_frame;               ///< types 1 to 3 only; others are ignored as ttrpc asks
    std::function<void(const base::Error&)> on_close;  ///< once, and nothing after it; not from the destructor
  };

  /// Takes over a connected socket; frames may come from the next turn of the loop on. Callbacks may destroy the
  /// Connection.
  Connection(base::Loop& loop, base::Fd socket, Callbacks callbacks);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// Queues one frame; frames leave in order. Dropped once closed. `data` is at most kFrameDataBytesMax.
  void send(FrameType type, std::uint32_t stream_id, std::string_view data);

  /// Closes with `reason`, which on_close gets.
  void close(base::Error reason);

 private:
  void on_data(std::string_view bytes);
  void on_stream_closed(const base::Error& error);

  Callbacks callbacks_;
  FrameDecoder decoder_;
  std::optional<base::Error> reason_;
  bool closed_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // seen by on_data after a callback destroyed us
  std::unique_ptr<base::Stream> stream_;
};

}  // namespace ttrpc
