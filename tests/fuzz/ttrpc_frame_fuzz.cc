// The frame decoder. The first byte says how the rest is cut; however that is, the frames are the same, and never
// larger than what has come or what is allowed.
#include <cstdlib>
#include <string>
#include <vector>

#include "ttrpc/frame.h"

namespace {

struct Outcome {
  std::vector<ttrpc::Frame> frames;
  bool malformed = false;
  bool mid_frame = false;
};

Outcome decode(std::string_view bytes, std::size_t piece) {
  Outcome outcome;
  ttrpc::FrameDecoder decoder;
  while (!bytes.empty() && !outcome.malformed) {
    std::string_view part = bytes.substr(0, piece);
    bytes.remove_prefix(part.size());
    while (!part.empty() && !outcome.malformed) {
      auto frame = decoder.next(part);
      if (!frame) {
        outcome.malformed = true;
      } else if (frame->has_value()) {
        outcome.frames.push_back(std::move(**frame));
      }
    }
  }
  outcome.mid_frame = decoder.mid_frame();
  return outcome;
}

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const Outcome whole = decode(bytes, bytes.size());
  const Outcome cut = decode(bytes, 1 + data[0]);
  require(whole.malformed == cut.malformed && whole.mid_frame == cut.mid_frame);
  require(whole.frames.size() == cut.frames.size());
  for (std::size_t i = 0; i < whole.frames.size(); ++i) {
    const ttrpc::Frame& frame = whole.frames[i];
    require(frame.data == cut.frames[i].data && frame.stream_id == cut.frames[i].stream_id);
    require(frame.data.size() <= ttrpc::kFrameDataBytesMax && frame.data.size() < size);
    require(frame.oversized_bytes == 0 || (frame.data.empty() && frame.oversized_bytes > ttrpc::kFrameDataBytesMax));
  }
  return 0;
}
