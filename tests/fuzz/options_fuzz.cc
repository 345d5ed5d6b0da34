// msgpack as an agent (or whoever speaks to our socket) sends it, to task and plugin options. What decodes keeps the
// promises of the table; what does not has a message.
#include <cstdlib>

#include "base/json.h"
#include "driver/options/config.h"

namespace {

void check_strings(const driver::TaskOptions& options) {
  const auto has_nul = [](const std::string& text) { return text.find('\0') != std::string::npos; };
  for (const std::string& arg : options.args) {
    if (has_nul(arg)) std::abort();
  }
  if (options.image.empty() || has_nul(options.image) || options.image.find('\n') != std::string::npos) std::abort();
  if (options.pids_limit < 0 || options.image_pull_timeout.count() <= 0) std::abort();
  for (const driver::MountOption& mount : options.mounts) {
    if (mount.target.empty() || mount.target.front() != '/') std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto object = base::parse_msgpack({reinterpret_cast<const char*>(data), size}, "options");
  if (!object) return 0;
  if (const auto task = driver::decode_task_options(*object)) {
    check_strings(*task);
  } else if (task.error().message.empty()) {
    std::abort();
  }
  [[maybe_unused]] const auto plugin = driver::decode_plugin_options(*object);
  return 0;
}
