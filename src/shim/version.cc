#include <string_view>

#include "base/process.h"
#include "shim/shim.h"

namespace shim {

base::Result<std::string> probe_version(const base::Context& ctx, const std::string& shim_binary) {
  constexpr std::chrono::seconds kTimeout{10};
  constexpr std::size_t kOutputBytesMax = 16u << 10;
  base::SpawnOptions program;
  program.argv = {shim_binary, "-v"};
  program.env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
  TRY(const base::RunResult ran, base::run(ctx.with_timeout(kTimeout), program, "", kOutputBytesMax));
  // containerd-shim-runc-v2:
  //   Version:  1.6.20~ds1
  constexpr std::string_view kLabel = "Version:";
  const std::string_view text = ran.stdout_text;
  const std::size_t label = text.find(kLabel);
  const std::size_t start = label == text.npos ? text.npos : text.find_first_not_of(" \t", label + kLabel.size());
  if (!ran.exit.success() || start == text.npos || text.substr(0, label).find("shim-runc-v2") == text.npos) {
    return base::Error::failed_precondition(
        base::str(shim_binary, " is not a containerd-shim-runc-v2: \"-v\" printed no version"));
  }
  return std::string(text.substr(start, text.find_first_of(" \t\r\n", start) - start));
}

}  // namespace shim
