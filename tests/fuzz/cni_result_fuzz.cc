// What plugins print: a result that is taken means the same in every version's form; an error is fit for a log.
#include <cstdlib>
#include <string_view>

#include "base/text.h"
#include "cni/result.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto error = cni::parse_error(text); error && base::has_control(error->message)) std::abort();
  [[maybe_unused]] const auto versions = cni::parse_versions(text);
  const auto result = cni::parse_result(text, cni::kNewest);
  if (!result) return 0;
  for (const cni::Version& version : {cni::kOldest, cni::kCheckSince, cni::kNoFamilySince, cni::kNewest}) {
    const auto again = cni::parse_result(cni::result_text(*result, version), version);
    if (!again || again->ips.size() != result->ips.size()) std::abort();
  }
  return 0;
}
