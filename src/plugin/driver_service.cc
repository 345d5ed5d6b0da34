#include "base/log.h"
#include "base/text.h"
#include "plugin/convert.h"
#include "plugin/errors.h"
#include "plugin/messages.h"
#include "plugin/proto/driver.pb.h"
#include "plugin/proto/hclspec.pb.h"
#include "plugin/schema.h"
#include "plugin/services.h"

namespace plugin {

namespace {

using CallPtr = std::shared_ptr<grpc::Call>;
namespace pb = nomad::driver;

constexpr std::int32_t kHandleVersion = 1;
constexpr std::chrono::seconds kStatsIntervalDefault{1};

std::string task_config_schema();
base::Result<std::string> start_task(driver::Driver& driver, const base::Context& ctx, std::string_view request);
base::Result<std::string> recover_task(driver::Driver& driver, const base::Context& ctx, std::string_view request);
base::Result<std::string> destroy_task(driver::Driver& driver, const base::Context& ctx, std::string_view request);
base::Result<std::string> inspect_task(driver::Driver& driver, const base::Context& ctx, std::string_view request);
base::Result<std::string> signal_task(driver::Driver& driver, const base::Context& ctx, std::string_view request);
base::Result<std::string> create_network(driver::Driver& driver, const base::Context& ctx, std::string_view request);
base::Result<std::string> destroy_network(driver::Driver& driver, const base::Context& ctx, std::string_view request);
base::Status capabilities_reply(driver::Driver& driver, const CallPtr& call, const std::string& request);
base::Status wait_task(driver::Driver& driver, const CallPtr& call, const std::string& request);
base::Status stop_task(driver::Driver& driver, const CallPtr& call, const std::string& request);
base::Status task_stats(driver::Driver& driver, const CallPtr& call, const std::string& request);
base::Status task_events(driver::Driver& driver, const CallPtr& call, const std::string& request);
base::Status fingerprint(driver::Driver& driver, const CallPtr& call, const std::string& request);

using Unary = base::Result<std::string> (*)(driver::Driver&, const base::Context&, std::string_view);
using Stream = base::Status (*)(driver::Driver&, const CallPtr&, const std::string&);

}  // namespace

void register_driver_service(grpc::Server& server, driver::Driver& driver) {
  const std::string service = "/hashicorp.nomad.plugins.drivers.proto.Driver/";
  const auto unary = [&](const char* method, Unary fn, const grpc::StatusOf& errors) {
    const auto handler = [&driver, fn](const base::Context& ctx, std::string_view request) {
      return fn(driver, ctx, request);
    };
    server.unary(service + method, handler, errors);
  };
  const auto stream = [&](const char* method, Stream fn) {
    const auto handler = [&driver, fn](const CallPtr& call, const std::string& request) {
      const auto begun = fn(driver, call, request);
      if (!begun) call->finish(status_of(begun.error()));
    };
    server.async(service + method, handler, status_of);
  };
  // Asked before every start and recovery, and by everything that looks at the driver: no thread, no work.
  server.constant(service + "TaskConfigSchema", task_config_schema());
  stream("Capabilities", capabilities_reply);
  // Init may come again after an agent restart, Shutdown before each end of ours; neither may touch a task. What they
  // would do is done elsewhere: state is on disk at all times.
  server.constant(service + "Init", {});
  server.constant(service + "Shutdown", {});
  unary("StartTask", start_task, start_status_of);
  unary("RecoverTask", recover_task, status_of);
  unary("DestroyTask", destroy_task, status_of);
  unary("InspectTask", inspect_task, status_of);
  unary("SignalTask", signal_task, status_of);
  unary("CreateNetwork", create_network, status_of);
  unary("DestroyNetwork", destroy_network, status_of);
  stream("WaitTask", wait_task);
  stream("StopTask", stop_task);
  stream("TaskStats", task_stats);
  stream("TaskEvents", task_events);
  stream("Fingerprint", fingerprint);
  register_exec_service(server, driver);
}

namespace {

std::string task_config_schema() {
  pb::TaskConfigSchemaResponse response;
  *response.mutable_spec() = to_spec(driver::task_schema());
  return response.SerializeAsString();
}

base::Status capabilities_reply(driver::Driver& driver, const CallPtr& call, const std::string& /*request*/) {
  pb::CapabilitiesResponse response;
  *response.mutable_capabilities() = capabilities(driver.options()->networks);
  call->reply(response.SerializeAsString());
  return {};
}

base::Result<std::string> start_task(driver::Driver& driver, const base::Context& ctx, std::string_view request) {
  TRY(auto start, parse_message<pb::StartTaskRequest>(request));
  TRY(const driver::TaskSpec spec, to_task_spec(start.task()));
  TRY(const driver::StartedTask started, driver.start(ctx, spec));
  pb::StartTaskResponse response;
  response.set_result(pb::StartTaskResponse::SUCCESS);
  auto* handle = response.mutable_handle();
  handle->set_version(kHandleVersion);
  // The whole configuration, fields included that we do not know: the agent gets it back when it recovers the task.
  handle->mutable_config()->Swap(start.mutable_task());
  handle->set_state(pb::RUNNING);
  handle->set_driver_state(started.driver_state);
  return response.SerializeAsString();
}

base::Result<std::string> recover_task(driver::Driver& driver, const base::Context& ctx, std::string_view request) {
  TRY(const auto recover, parse_message<pb::RecoverTaskRequest>(request));
  if (!recover.has_handle()) return base::Error::invalid_argument("the request to recover a task has no handle");
  // Agents leave task_id empty, and the driver config out of the handle.
  const std::string& id = recover.task_id().empty() ? recover.handle().config().id() : recover.task_id();
  if (id.empty()) return base::Error::invalid_argument("the handle to recover has no task id");
  if (recover.handle().version() > kHandleVersion) {
    return base::Error::failed_precondition(base::str("the handle of task ", id, " has version ",
                                                      recover.handle().version(), ", this driver knows ",
                                                      kHandleVersion, ": upgrade the driver"));
  }
  TRY_VOID(driver.recover(ctx, {id}, recover.handle().driver_state()));
  return pb::RecoverTaskResponse().SerializeAsString();
}

base::Result<std::string> destroy_task(driver::Driver& driver, const base::Context& ctx, std::string_view request) {
  TRY(const auto destroy, parse_message<pb::DestroyTaskRequest>(request));
  TRY_VOID(driver.destroy(ctx, {destroy.task_id()}, destroy.force()));
  return pb::DestroyTaskResponse().SerializeAsString();
}

base::Result<std::string> inspect_task(driver::Driver& driver, const base::Context& /*ctx*/, std::string_view request) {
  TRY(const auto inspect, parse_message<pb::InspectTaskRequest>(request));
  TRY(const auto status, driver.inspect({inspect.task_id()}));
  pb::InspectTaskResponse response;
  fill(status, &response);
  return response.SerializeAsString();
}

base::Result<std::string> signal_task(driver::Driver& driver, const base::Context& ctx, std::string_view request) {
  TRY(const auto signal, parse_message<pb::SignalTaskRequest>(request));
  TRY_VOID(driver.signal(ctx, {signal.task_id()}, signal.signal()));
  return pb::SignalTaskResponse().SerializeAsString();
}

base::Result<std::string> create_network(driver::Driver& driver, const base::Context& ctx, std::string_view request) {
  TRY(const auto create, parse_message<pb::CreateNetworkRequest>(request));
  TRY(const auto network, driver.create_network(ctx, create.alloc_id(), create.hostname()));
  pb::CreateNetworkResponse response;
  fill(network, create.hostname(), &response);
  return response.SerializeAsString();
}

base::Result<std::string> destroy_network(driver::Driver& driver, const base::Context& ctx, std::string_view request) {
  TRY(const auto destroy, parse_message<pb::DestroyNetworkRequest>(request));
  TRY_VOID(driver.destroy_network(ctx, destroy.alloc_id()));
  return std::string();  // its answer has no fields
}

// The five that wait. Each leaves a callback with the driver and its subscription with the call, and returns: whoever
// has the news answers. A callback may come before its subscription is kept; keep() of an ended call drops it.

base::Status wait_task(driver::Driver& driver, const CallPtr& call, const std::string& request) {
  TRY(const auto wait, parse_message<pb::WaitTaskRequest>(request));
  const auto on_exit = [call](const driver::ExitResult& exit) {
    pb::WaitTaskResponse response;
    fill(exit, response.mutable_result());
    response.set_err(base::printable(exit.error));
    call->reply(response.SerializeAsString());
  };
  TRY(auto subscription, driver.wait({wait.task_id()}, on_exit));
  call->keep(std::move(subscription));
  return {};
}

base::Status stop_task(driver::Driver& driver, const CallPtr& call, const std::string& request) {
  TRY(const auto stop, parse_message<pb::StopTaskRequest>(request));
  TRY(const auto timeout, to_duration(stop.timeout()));
  const auto on_done = [call](const base::Status& stopped) {
    if (!stopped) return call->finish(status_of(stopped.error()));
    call->reply(pb::StopTaskResponse().SerializeAsString());
  };
  TRY(auto subscription, driver.stop({stop.task_id()}, timeout, stop.signal(), on_done));
  call->keep(std::move(subscription));
  return {};
}

base::Status task_stats(driver::Driver& driver, const CallPtr& call, const std::string& request) {
  TRY(const auto stats, parse_message<pb::TaskStatsRequest>(request));
  TRY(std::chrono::nanoseconds interval, to_duration(stats.collection_interval()));
  if (interval.count() == 0) interval = kStatsIntervalDefault;
  const driver::TaskId id{stats.task_id()};
  const auto on_sample = [call, id](const driver::TaskStats& sample) {
    if (!call->writable()) return;  // an agent that does not read misses samples, not memory
    pb::TaskStatsResponse response;
    fill(id, sample, response.mutable_stats());
    call->send(response.SerializeAsString());
  };
  TRY(auto subscription, driver.stats(id, interval, on_sample, [call] { call->finish({}); }));
  call->keep(std::move(subscription));
  return {};
}

base::Status task_events(driver::Driver& driver, const CallPtr& call, const std::string& /*request*/) {
  call->keep(driver.events([call](const driver::TaskEvent& event) {
    if (!call->writable()) {
      LOG_WARN("an agent is not reading its task events: one was dropped", {{"task", event.id.text}});
      return;
    }
    pb::DriverTaskEvent message;
    fill(event, &message);
    call->send(message.SerializeAsString());
  }));
  return {};
}

base::Status fingerprint(driver::Driver& driver, const CallPtr& call, const std::string& /*request*/) {
  call->keep(driver.watch_fingerprint([call](const driver::Fingerprint& now) {
    pb::FingerprintResponse response;
    fill(now, &response);
    call->send(response.SerializeAsString());
  }));
  return {};
}

}  // namespace

}  // namespace plugin
