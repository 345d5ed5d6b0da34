#include "plugin/errors.h"
#include "plugin/messages.h"
#include "plugin/proto/go_plugin.pb.h"
#include "plugin/services.h"

namespace plugin {

namespace {

base::Result<std::string> check_health(std::string_view request);

}  // namespace

void register_go_plugin_services(grpc::Server& server, std::function<void()> on_shutdown) {
  // Both stay open without a word as long as the host wants; each new connection, and each agent that comes back, opens
  // its own. What we would say on them (output, broker addresses) does not exist.
  for (const char* silent : {"/plugin.GRPCStdio/StreamStdio", "/plugin.GRPCBroker/StartStream"}) {
    server.bidi(silent, [](const std::shared_ptr<grpc::Call>&) { return grpc::BidiHandlers{}; });
  }
  // On the loop, not on the crew: a crew full of blocked calls must not keep us here until the host kills us.
  server.bidi("/plugin.GRPCController/Shutdown", [on_shutdown](const std::shared_ptr<grpc::Call>& call) {
    grpc::BidiHandlers handlers;
    handlers.on_message = [call, on_shutdown](const std::string&) {
      call->reply({});
      on_shutdown();
    };
    return handlers;
  });
  server.unary(
      "/grpc.health.v1.Health/Check",
      [](const base::Context&, std::string_view request) { return check_health(request); }, status_of);
  server.refuse("/grpc.health.v1.Health/Watch", {base::Code::kUnimplemented, "Watch is not implemented: use Check"});
}

namespace {

base::Result<std::string> check_health(std::string_view request) {
  TRY(const auto check, parse_message<nomad::go_plugin::HealthCheckRequest>(request));
  if (!check.service().empty() && check.service() != "plugin") return base::Error::not_found("unknown service");
  nomad::go_plugin::HealthCheckResponse response;
  response.set_status(nomad::go_plugin::HealthCheckResponse::SERVING);
  return response.SerializeAsString();
}

}  // namespace

}  // namespace plugin
