// All services of the plugin over the fake driver, for tests.
#pragma once

#include <map>
#include <string>

#include "base/crew.h"
#include "base/loop.h"
#include "grpc/server.h"
#include "plugin/services.h"
#include "tests/grpc/client.h"
#include "tests/plugin/fake_driver.h"

namespace tests {

inline std::string driver_method(const std::string& name) {
  return "/hashicorp.nomad.plugins.drivers.proto.Driver/" + name;
}
inline std::string base_method(const std::string& name) {
  return "/hashicorp.nomad.plugins.base.proto.BasePlugin/" + name;
}

struct PluginServer {
  PluginServer()
      : crew({.name = "calls", .idle_time = std::chrono::milliseconds(100)}), driver(loop, crew), server(loop, crew) {
    reset_fake();
    plugin::register_base_service(server, driver, "1.2.3");
    plugin::register_driver_service(server, driver);
    plugin::register_go_plugin_services(server, [this] { shutdown.set(true); });
  }
  GrpcClient connect() {
    auto pair = socket_pair();
    server.serve(std::move(pair.theirs));
    return GrpcClient(std::move(pair.ours));
  }
  /// Waits up to 20 s.
  static bool eventually(const std::function<bool()>& done) {
    const auto deadline = base::Clock::now() + std::chrono::seconds(20);
    while (!done()) {
      if (base::Clock::now() > deadline) return false;
      [[maybe_unused]] const auto slept = base::Context::background().sleep(std::chrono::milliseconds(1));
    }
    return true;
  }
  std::vector<std::string> calls() { return fake().lock()->calls; }

  base::OneShot<bool> shutdown;
  base::Loop loop;
  base::Crew crew;
  driver::Driver driver;
  grpc::Server server;
};

}  // namespace tests
