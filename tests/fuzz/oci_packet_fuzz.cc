// What a process that was taken over may send to the one that gives layers their names: refused, or understood the same
// way each time it is written and read.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "oci/fetch/unpack_protocol.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto message = oci::fetch::decode_unpack_message({reinterpret_cast<const char*>(data), size});
  if (!message) return 0;
  const std::string text = oci::fetch::encode(*message);
  const auto again = oci::fetch::decode_unpack_message(text);
  if (!again || again->index() != message->index() || oci::fetch::encode(*again) != text) std::abort();
  return 0;
}
