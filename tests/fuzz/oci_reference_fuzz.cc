// Image names: what parses has a canonical form that parses to the same, and is safe to put into a URL and a file.
#include <cstdlib>
#include <string_view>

#include "oci/reference.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto reference = oci::Reference::parse({reinterpret_cast<const char*>(data), size});
  if (!reference) return 0;
  const std::string canonical = reference->canonical();
  const auto again = oci::Reference::parse(canonical);
  if (!again || !(*again == *reference)) std::abort();
  for (const char c : canonical) {
    if (static_cast<unsigned char>(c) <= 0x20 || static_cast<unsigned char>(c) >= 0x7f) std::abort();
  }
  for (const char* bad : {"..", "//", "?", "#", "%", "\\"}) {
    if (reference->repository().find(bad) != std::string::npos) std::abort();
  }
  return 0;
}
