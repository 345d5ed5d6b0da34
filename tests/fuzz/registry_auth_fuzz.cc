// A Docker config.json and a credential helper's answer are other programs' words: whatever they hold, no message of
// ours repeats a part of it, which could be a secret.
#include <cstdlib>
#include <string_view>

#include "driver/image/credentials.h"

namespace {

constexpr std::string_view kSecret = "0123456789abcdef";  // in the seeds, wherever a secret may be

void check(const base::Error& error) {
  if (error.message.find(kSecret) != std::string::npos) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto entry = driver::read_docker_config(text, "registry.example.com:5000");
  if (!entry) check(entry.error());
  const auto answer = driver::parse_helper_answer(text);
  if (!answer) check(answer.error());
  [[maybe_unused]] const auto host = driver::registry_host(text);
  return 0;
}
