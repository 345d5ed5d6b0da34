// What a shim (or whoever reaches our event socket) sends as an event.
#include <string>

#include "shim/events.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  [[maybe_unused]] const auto event = shim::decode_event(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
