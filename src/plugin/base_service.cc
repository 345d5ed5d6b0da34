#include "base/json.h"
#include "driver/options/config.h"
#include "plugin/convert.h"
#include "plugin/errors.h"
#include "plugin/messages.h"
#include "plugin/msgpack.h"
#include "plugin/proto/base.pb.h"
#include "plugin/proto/hclspec.pb.h"
#include "plugin/schema.h"
#include "plugin/services.h"

namespace plugin {

namespace {

std::string plugin_info(const std::string& version);
std::string config_schema();
base::Result<std::string> set_config(driver::Driver& driver, std::string_view request);

}  // namespace

void register_base_service(grpc::Server& server, driver::Driver& driver, const std::string& version) {
  const std::string service = "/hashicorp.nomad.plugins.base.proto.BasePlugin/";
  server.constant(service + "PluginInfo", plugin_info(version));
  server.constant(service + "ConfigSchema", config_schema());
  server.unary(
      service + "SetConfig",
      [&driver](const base::Context&, std::string_view request) { return set_config(driver, request); }, status_of);
}

namespace {

std::string plugin_info(const std::string& version) {
  nomad::base::PluginInfoResponse info;
  info.set_type(nomad::base::DRIVER);
  info.add_plugin_api_versions(kApiVersion);
  info.set_plugin_version(version);
  info.set_name(kDriverName);
  return info.SerializeAsString();
}

std::string config_schema() {
  nomad::base::ConfigSchemaResponse response;
  *response.mutable_spec() = to_spec(driver::plugin_schema());
  return response.SerializeAsString();
}

/// Called twice without nomad_config in the instance that only validates, and again after each restart of ours.
base::Result<std::string> set_config(driver::Driver& driver, std::string_view request) {
  TRY(const auto set, parse_message<nomad::base::SetConfigRequest>(request));
  TRY(const base::Json config, decode_config(set.msgpack_config(), "plugin config"));
  TRY(auto options, driver::decode_plugin_options(config));
  const auto node = to_node_info(set.nomad_config().driver().topology());
  TRY_VOID(driver.configure(std::move(options), node));
  return nomad::base::SetConfigResponse().SerializeAsString();
}

}  // namespace

}  // namespace plugin
