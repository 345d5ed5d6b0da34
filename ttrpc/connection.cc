#include "ttrpc/connection.h"

#include <utility>

namespace ttrpc {

Connection::Connection(base::Loop& loop, base::Fd socket, Callbacks callbacks) : callbacks_(std::move(callbacks)) {
  base::Stream::Callbacks stream;
  stream.on_data = [this](std::string_view bytes) { on_data(bytes); };
  stream.on_close = [this](const base::Error& error) { on_stream_closed(error); };
  stream_ = std::make_unique<base::Stream>(loop, std::move(socket), std::move(stream));
}

Connection::~Connection() {
  *alive_ = false;
}

void Connection::send(FrameType type, std::uint32_t stream_id, std::string_view data) {
  if (closed_) return;
  if (stream_->pending_write_bytes() + data.size() > kQueuedWriteBytesMax) {
    return close(base::Error::resource_exhausted(
        base::str("the peer does not read: more than ", kQueuedWriteBytesMax, " bytes are waiting for it")));
  }
  stream_->write(encode_frame(type, stream_id, data));
}

void Connection::close(base::Error reason) {
  if (closed_) return;
  reason_ = std::move(reason);
  stream_->close();
}

void Connection::on_data(std::string_view bytes) {
  const auto alive = alive_;
  while (!bytes.empty() && !closed_) {
    auto frame = decoder_.next(bytes);
    if (!frame) return close(std::move(frame).error());
    if (!frame->has_value()) return;
    const std::uint8_t type = (*frame)->type;
    if (type < 1 || type > 3) continue;
    const auto on_frame = callbacks_.on_frame;  // a copy: the call may destroy us and it
    on_frame(std::move(**frame));
    if (!*alive) return;
  }
}

void Connection::on_stream_closed(const base::Error& error) {
  closed_ = true;
  base::Error reason = reason_ ? std::move(*reason_) : error;
  if (!reason_ && decoder_.mid_frame()) reason.message += " in the middle of a frame";
  const auto on_close = callbacks_.on_close;
  if (on_close) on_close(reason);
}

}  // namespace ttrpc
