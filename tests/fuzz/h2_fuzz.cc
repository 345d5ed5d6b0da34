// A connection of a peer that sends anything: HTTP/2 frames, header compression, gRPC messages. The first byte says how
// the rest is cut into reads. Whatever comes, the session tells of each stream's end once, and holds what it promises.
#include <cstdlib>
#include <map>

#include "grpc/http2.h"
#include "grpc/wire.h"

namespace {

/// Answers every call with what it sent, as src/grpc/connection.cc would.
class Peer : public grpc::SessionEvents {
 public:
  void run(std::size_t piece, std::string_view bytes) {
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
      if (!session_.receive(bytes.substr(at, piece))) break;
      take_output();
    }
    take_output();
  }

 private:
  struct Call {
    grpc::MessageReader reader{64u << 10};
    bool started = false;
    bool finished = false;
  };

  static void require(bool condition) {
    if (!condition) std::abort();
  }

  void take_output() {
    while (!session_.output(1u << 16).empty()) {
    }
  }

  void on_head_begin() override { ++heads_; }
  void on_head_end() override { require(--heads_ == 0); }
  void on_request(grpc::StreamId id, const grpc::RequestHead& head) override {
    require(calls_.try_emplace(id).second);
    require(calls_.size() <= grpc::kStreamsMax);
    if (!grpc::is_grpc_content_type(head.content_type)) finish(id, base::Code::kInternal);
    [[maybe_unused]] const auto timeout = grpc::parse_timeout(head.timeout);
  }
  void on_data(grpc::StreamId id, std::string_view bytes) override {
    auto& call = calls_.at(id);
    session_.consume(id, bytes.size());
    if (call.finished) return;
    const auto fed = call.reader.feed(bytes, [&](const std::string& message) {
      if (!call.started) session_.start_response(id, {{":status", "200"}, {"content-type", "application/grpc"}});
      call.started = true;
      session_.write(id, grpc::frame_message(message));
    });
    require(call.reader.pending_bytes() <= (64u << 10) + 5);
    if (!fed) finish(id, fed.error().code);
  }
  void on_end(grpc::StreamId id) override { finish(id, base::Code::kOk); }
  void on_sent(grpc::StreamId id, std::size_t /*bytes*/) override { require(calls_.contains(id)); }
  void on_closed(grpc::StreamId id) override { require(calls_.erase(id) == 1); }

  void finish(grpc::StreamId id, base::Code code) {
    auto& call = calls_.at(id);
    if (std::exchange(call.finished, true)) return;
    const std::string status = std::to_string(static_cast<int>(code));
    if (call.started) {
      session_.finish(id, {{"grpc-status", status}});
    } else {
      session_.respond(id, {{":status", "200"}, {"grpc-status", status}});
    }
  }

  std::map<grpc::StreamId, Call> calls_;
  int heads_ = 0;
  grpc::Session session_{*this};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::size_t piece = data[0] == 0 ? size : data[0];
  Peer().run(piece, bytes.substr(1));
  return 0;
}
