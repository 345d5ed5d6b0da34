// The services of the plugin, registered at a server: Nomad's BasePlugin and Driver, go-plugin's own. They turn
// requests into calls of the driver and its answers into replies; nothing is decided here.
//
// spec  docs/plugin.md
#pragma once

#include <functional>
#include <string>

#include "driver/driver.h"
#include "grpc/server.h"

namespace plugin {

constexpr char kDriverName[] = "containerd-driver";  // as jobs name it
constexpr char kApiVersion[] = "v0.1.0";             // the only plugin API that agents know

/// hashicorp.nomad.plugins.base.proto.BasePlugin: PluginInfo, ConfigSchema, SetConfig.
void register_base_service(grpc::Server& server, driver::Driver& driver, const std::string& version);

/// hashicorp.nomad.plugins.drivers.proto.Driver: all of its methods; those to come answer UNIMPLEMENTED.
void register_driver_service(grpc::Server& server, driver::Driver& driver);

/// Its two methods that run commands in tasks: ExecTask and ExecTaskStreaming. Part of register_driver_service().
void register_exec_service(grpc::Server& server, driver::Driver& driver);

/// plugin.GRPCStdio, plugin.GRPCBroker, plugin.GRPCController and grpc.health.v1.Health. `on_shutdown` runs on the
/// loop's thread when the host has asked us to go; the reply is queued by then.
void register_go_plugin_services(grpc::Server& server, std::function<void()> on_shutdown);

}  // namespace plugin
