// Configuration lists: what parses has names that are safe in paths, and can be told to every one of its plugins.
#include <cstdlib>
#include <string_view>

#include "cni/attachment.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto list = cni::parse_list({reinterpret_cast<const char*>(data), size}, "the list");
  if (!list) return 0;
  if (!cni::is_name(list->name) || list->plugins.empty() || list->plugins.size() > cni::kPluginsMax) std::abort();
  cni::Attachment attachment;
  attachment.container_id = "c";
  attachment.netns = "/n";
  attachment.supplied.ips = {"10.0.0.1"};
  for (const cni::PluginConf& plugin : list->plugins) {
    if (!cni::is_plugin_type(plugin.type)) std::abort();
    if (cni::input_text({*list, plugin, &attachment, {}, nullptr}).empty()) std::abort();
  }
  return 0;
}
