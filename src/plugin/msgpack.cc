#include "plugin/msgpack.h"

#include "base/json.h"

namespace plugin {

base::Result<base::Json> decode_config(std::string_view msgpack, std::string_view what) {
  if (msgpack.empty()) return base::Json::object();
  const base::JsonLimits limits{
      .bytes_max = kConfigBytesMax, .depth_max = kConfigDepthMax, .nodes_max = kConfigNodesMax};
  TRY(base::Json config, base::parse_msgpack(msgpack, what, limits));
  if (config.is_null()) return base::Json::object();
  if (!config.is_object()) return base::Error::invalid_argument(base::str(what, ": not an object"));
  return config;
}

}  // namespace plugin
