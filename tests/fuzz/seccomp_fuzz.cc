// A profile that resolves is one that resolves to itself: nothing conditional is left in it, and a runtime gets only
// what it knows.
#include <cstdlib>

#include "base/json.h"
#include "driver/spec/seccomp_profile.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const driver::SeccompTarget target{"amd64", {"CAP_CHOWN", "CAP_SYS_ADMIN"}, 5, 10};
  const auto once = driver::resolve_seccomp_profile(text, target);
  if (!once) {
    if (once.error().message.empty() || once.error().code != base::Code::kInvalidArgument) std::abort();
    return 0;
  }
  for (const base::Json& rule : (*once)["syscalls"]) {
    if (rule.contains("includes") || rule.contains("excludes") || rule["names"].empty()) std::abort();
  }
  const auto twice = driver::resolve_seccomp_profile(base::dump_json(*once), target);
  if (!twice || *twice != *once) std::abort();
  return 0;
}
