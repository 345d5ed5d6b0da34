// How a gRPC call ends, and the limits that this server sets to its peers.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>

#include "base/result.h"

namespace grpc {

/// The trailers of a call: grpc-status, grpc-message (percent-encoded on the wire), grpc-status-details-bin.
struct Status {
  base::Code code = base::Code::kOk;
  std::string message;
  /// A serialized google.rpc.Status, or empty. Its code must equal `code`, or grpc-go replaces the whole error.
  std::string details_bin = {};

  bool ok() const { return code == base::Code::kOk; }
};

// What one peer may ask of us. Beyond a limit of a call, the call fails; beyond a limit of the connection, GOAWAY
// (ENHANCE_YOUR_CALM) and close: other connections do not notice.
constexpr std::size_t kRequestBytesMax = 16u << 20;      // one message; beyond: RESOURCE_EXHAUSTED
constexpr std::size_t kRequestBytesHeldMax = 32u << 20;  // by one connection's unfinished calls; RESOURCE_EXHAUSTED
constexpr std::size_t kHeaderListBytesMax = 64u << 10;   // RFC 9113 6.5.2 counting: name + value + 32 a field
constexpr std::size_t kHeaderFieldsMax = 100;            // in one block
constexpr int kContinuationsMax = 6;                     // CONTINUATION frames in one block; 64 KiB need four
constexpr int kControlFramesPerSecondMax = 1000;         // SETTINGS, PING, PRIORITY, empty DATA, refusals
// A rapid reset attack opens and cancels at once (CVE-2023-44487). Cancelling what has been open for a while is normal:
// an agent ends the streams of all its tasks in one go.
constexpr int kEarlyResetsPerSecondMax = 200;
constexpr std::chrono::milliseconds kEarlyResetAge{1000};
// Never advertised: an agent that knows a limit queues StopTask behind it. A task pins two streams, 2,000 tasks fit.
constexpr std::size_t kStreamsMax = 4096;                // of one connection; beyond: REFUSED_STREAM
constexpr std::size_t kConnectionsMax = 64;              // at once; beyond: closed at accept
constexpr std::chrono::seconds kRequestHeadTimeout{30};  // preface, and a header block from its first byte to its last
// What a slow reader makes us hold for one call.
constexpr std::size_t kSendHighWaterBytes = 256u << 10;     // Call::send asks to pause from here
constexpr std::size_t kSendBufferBytesMax = 4u << 20;       // a call that goes on sending ends with RESOURCE_EXHAUSTED
constexpr std::size_t kSocketPendingBytesMax = 256u << 10;  // frames handed to the socket and not yet taken
constexpr std::size_t kOutboundFramesMax = 8192;            // frames waiting in the session; we stop reading from here
constexpr std::size_t kStatusMessageBytesMax = 8u << 10;    // longer messages are cut

}  // namespace grpc
