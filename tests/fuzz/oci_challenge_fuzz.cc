// What a registry's 401 can make of us: challenges are bounded, and a token URL never leads where it may not.
#include <cstdlib>
#include <string_view>

#include "oci/fetch/registry/auth.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  static const auto registry = *oci::fetch::parse_url("https://registry.example/v2/");
  const auto challenges = oci::fetch::parse_challenges(text);
  if (challenges.size() > oci::fetch::kChallengesMax) std::abort();
  if (const auto* challenge = oci::fetch::choose_challenge(challenges)) {
    const auto url = oci::fetch::token_url(*challenge, "repository:a:pull", {"user", "hunter2"});
    if (url && oci::fetch::check_realm(*url, registry)) {
      if (url->scheme != "https" || oci::fetch::is_private_literal(url->host)) std::abort();
      // Unless the registry knows it already.
      if (text.find("hunter2") == std::string_view::npos && url->text.find("hunter2") != std::string::npos)
        std::abort();
    }
  }
  [[maybe_unused]] const auto token = oci::fetch::parse_token(text);
  [[maybe_unused]] const auto location = oci::fetch::resolve_url(registry, text);
  return 0;
}
