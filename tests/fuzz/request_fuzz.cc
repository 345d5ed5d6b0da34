// Protobuf requests from whoever speaks to the plugin's socket. What becomes a TaskSpec has an id and sane sizes; what
// does not has a message.
#include <google/protobuf/stubs/logging.h>

#include <cstdlib>

#include "base/json.h"
#include "base/text.h"
#include "plugin/convert.h"
#include "plugin/errors.h"
#include "plugin/messages.h"
#include "plugin/msgpack.h"
#include "plugin/proto/base.pb.h"
#include "plugin/proto/driver.pb.h"
#include "plugin/proto/well_known.pb.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void task(const nomad::driver::TaskConfig& config) {
  const auto spec = plugin::to_task_spec(config);
  if (!spec) return require(!spec.error().message.empty());
  require(!spec->id.text.empty());
  require(spec->resources.memory_bytes >= 0 && spec->resources.memory_max_bytes >= -1);
  require(spec->resources.cpu_shares >= 0);
  require(spec->env.size() <= static_cast<std::size_t>(plugin::kEnvVariablesMax));
  require(spec->mounts.size() <= static_cast<std::size_t>(plugin::kListEntriesMax));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  [[maybe_unused]] static const auto before = google::protobuf::SetLogHandler(nullptr);
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (const auto start = plugin::parse_message<nomad::driver::StartTaskRequest>(bytes)) task(start->task());
  if (const auto recover = plugin::parse_message<nomad::driver::RecoverTaskRequest>(bytes)) {
    task(recover->handle().config());
  }
  if (const auto set = plugin::parse_message<nomad::base::SetConfigRequest>(bytes)) {
    [[maybe_unused]] const auto config = plugin::decode_config(set->msgpack_config(), "plugin config");
    require(plugin::to_node_info(set->nomad_config().driver().topology()).total_compute_mhz >= 0);
  }
  if (const auto stop = plugin::parse_message<nomad::driver::StopTaskRequest>(bytes)) {
    const auto timeout = plugin::to_duration(stop->timeout());
    if (timeout) require(timeout->count() >= 0);
  }
  const std::string text = base::to_utf8(bytes);
  require(base::to_utf8(text) == text);
  return 0;
}
