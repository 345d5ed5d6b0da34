// A Docker config.json and a credential helper's answer are other programs' words: whatever they hold, no message of
// ours repeats a part of it, which could be a secret.
#include <cstdlib>
#include <string_view>

#include "driver/registry_auth.h"

namespace {

constexpr std::size_t kSecretMin = 12;  // shorter ones meet by chance: "kind", "auths"

/// `text` up to the first byte that JSON writes differently, long enough to be told from words of our own.
bool repeats_a_secret(std::string_view text, const std::string& message) {
  for (const std::string_view key : {"\"auth\":\"", "\"Secret\":\"", "\"password\":\"", "\"identitytoken\":\""}) {
    const auto begin = text.find(key);
    if (begin == std::string_view::npos) continue;
    const auto rest = text.substr(begin + key.size());
    const auto secret = rest.substr(0, rest.find_first_of("\"\\"));
    if (secret.size() >= kSecretMin && message.find(secret) != std::string::npos) return true;
  }
  return false;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto entry = driver::read_docker_config(text, "registry.example.com:5000");
  if (!entry && repeats_a_secret(text, entry.error().message)) std::abort();
  const auto answer = driver::parse_helper_answer(text);
  if (!answer && repeats_a_secret(text, answer.error().message)) std::abort();
  [[maybe_unused]] const auto host = driver::registry_host(text);
  return 0;
}
