#include "plugin/services.h"

#include <doctest/doctest.h>

#include "plugin/proto/base.pb.h"
#include "plugin/proto/driver.pb.h"
#include "plugin/proto/go_plugin.pb.h"
#include "plugin/proto/hclspec.pb.h"
#include "plugin/proto/well_known.pb.h"
#include "tests/plugin/golden.h"
#include "tests/plugin/plugin_server.h"

using namespace std::chrono_literals;
using tests::base_method;
using tests::driver_method;
using tests::PluginServer;
namespace pb = nomad::driver;

namespace {

constexpr char kConfig[] =
    "\x81\xa5image\xa5"
    "app:1";

std::string start_request(const std::string& id = "a/t/1") {
  pb::StartTaskRequest request;
  request.mutable_task()->set_id(id);
  request.mutable_task()->set_name("t");
  request.mutable_task()->set_msgpack_driver_config(kConfig);
  return request.SerializeAsString();
}

/// A request whose first field is the task's id.
std::string for_task(const std::string& id) {
  pb::WaitTaskRequest request;
  request.set_task_id(id);
  return request.SerializeAsString();
}

template <typename Message>
Message parse(const std::string& bytes) {
  Message message;
  CHECK(message.ParseFromString(bytes));
  return message;
}

template <typename Message>
Message only(const tests::Reply& reply) {
  CHECK_MESSAGE(reply.status() == 0, reply.message());
  REQUIRE(reply.messages.size() == 1);
  return parse<Message>(reply.messages[0]);
}

}  // namespace

TEST_CASE("PluginInfo, ConfigSchema, TaskConfigSchema, Capabilities") {
  PluginServer s;
  auto client = s.connect();
  const auto info = only<nomad::base::PluginInfoResponse>(client.call(base_method("PluginInfo"), ""));
  CHECK(info.name() == "containerd-driver");
  CHECK(info.type() == nomad::base::DRIVER);
  CHECK(info.plugin_version() == "1.2.3");
  CHECK(info.plugin_api_versions_size() == 1);
  CHECK(info.plugin_api_versions(0) == "v0.1.0");
  CHECK(only<nomad::base::ConfigSchemaResponse>(client.call(base_method("ConfigSchema"), "")).spec().has_object());
  const auto schema = only<pb::TaskConfigSchemaResponse>(client.call(driver_method("TaskConfigSchema"), ""));
  CHECK(schema.spec().object().attributes().contains("image"));
  CHECK(only<pb::CapabilitiesResponse>(client.call(driver_method("Capabilities"), "")).capabilities().exec());
}

TEST_CASE("SetConfig: with and without the agent's part, the last call wins, errors are plain") {
  PluginServer s;
  auto client = s.connect();
  CHECK(client.call(base_method("SetConfig"), tests::golden("SetConfig.request.1.bin")).status() == 0);
  CHECK(tests::fake().lock()->node->core_mhz == 0);
  CHECK(client.call(base_method("SetConfig"), tests::golden("SetConfig.request.3.bin")).status() == 0);
  CHECK(tests::fake().lock()->node->core_mhz == 2596);
  CHECK(tests::fake().lock()->options->stats_interval == 5s);
  CHECK(client.call(base_method("SetConfig"), "").status() == 0);  // no configuration at all
  nomad::base::SetConfigRequest bad;
  bad.set_msgpack_config(
      "\x81\xb0"
      "allow_privileged\xa3yes");
  const auto reply = client.call(base_method("SetConfig"), bad.SerializeAsString());
  CHECK(reply.status() == 3);
  CHECK(reply.message().find("allow_privileged") != std::string::npos);
  CHECK(reply.details().empty());
  CHECK(client.call(base_method("SetConfig"), "\xff\xff\xff").status() == 3);
  tests::fake().lock()->configure_error = base::Error::invalid_argument("data_dir must be absolute");
  CHECK(client.call(base_method("SetConfig"), "").message() == "data_dir must be absolute");
}

TEST_CASE("StartTask echoes the whole configuration, fields included that we do not know") {
  PluginServer s;
  auto client = s.connect();
  auto request = parse<pb::StartTaskRequest>(tests::golden("StartTask.request.8.bin"));
  request.mutable_task()->set_msgpack_driver_config(kConfig);
  std::string task = request.task().SerializeAsString();
  task += std::string("\xda\x3e\x03new", 6);  // field 1003, of an agent to come
  std::string bytes = "\x0a";
  for (std::size_t rest = task.size(); rest > 0; rest >>= 7) {
    bytes.push_back(static_cast<char>((rest & 127) | (rest > 127 ? 128 : 0)));
  }
  bytes += task;
  const auto response = only<pb::StartTaskResponse>(client.call(driver_method("StartTask"), bytes));
  CHECK(response.result() == pb::StartTaskResponse::SUCCESS);
  CHECK(response.handle().version() == 1);
  CHECK(response.handle().state() == pb::RUNNING);
  CHECK(response.handle().driver_state() == "state of " + request.task().id());
  CHECK_FALSE(response.has_network_override());
  CHECK(response.handle().config().SerializeAsString().find(std::string("\xda\x3e\x03new", 6)) != std::string::npos);
  CHECK(response.handle().config().SerializeAsString().size() == task.size());
  CHECK(tests::fake().lock()->tasks.contains(request.task().id()));
}

TEST_CASE("StartTask's errors: recoverable or final, never UNAVAILABLE") {
  PluginServer s;
  auto client = s.connect();
  tests::fake().lock()->start_error = base::Error::unavailable("pulling app:1: connection refused");
  auto reply = client.call(driver_method("StartTask"), start_request());
  CHECK(reply.status() == 9);
  CHECK(reply.message() == "pulling app:1: connection refused");
  CHECK(parse<nomad::wkt::RpcStatus>(reply.details()).code() == 9);
  tests::fake().lock()->start_error = base::Error::not_found("no such command");
  reply = client.call(driver_method("StartTask"), start_request());
  CHECK(reply.status() == 5);
  CHECK(reply.details().empty());
  pb::StartTaskRequest no_image;
  no_image.mutable_task()->set_id("x");
  CHECK(client.call(driver_method("StartTask"), no_image.SerializeAsString()).status() == 3);
  CHECK(client.call(driver_method("StartTask"), "").status() == 3);
  CHECK(client.call(driver_method("StartTask"), "garbage").status() == 3);
}

TEST_CASE("StartTask is cancelled by a reset") {
  PluginServer s;
  auto client = s.connect();
  tests::fake().lock()->start_blocks = true;
  const auto stream = client.start(driver_method("StartTask"), start_request());
  CHECK(PluginServer::eventually([&] { return s.calls().size() == 1; }));
  client.reset(stream, 8);
  s.server.close(10s);  // waits for the handler
  CHECK(tests::fake().lock()->tasks.empty());
}

TEST_CASE("WaitTask: any number of waiters, before and after the end, none left behind") {
  PluginServer s;
  auto client = s.connect();
  CHECK(client.call(driver_method("WaitTask"), for_task("nobody")).status() == 5);
  client.call(driver_method("StartTask"), start_request());
  std::vector<std::int32_t> waiters;
  for (int i = 0; i < 100; ++i) waiters.push_back(client.start(driver_method("WaitTask"), for_task("a/t/1")));
  CHECK(client.run_until([] { return tests::subscriptions() == 100; }));
  client.reset(waiters.back(), 8);
  CHECK(PluginServer::eventually([] { return tests::subscriptions() == 99; }));
  waiters.pop_back();
  tests::end_task("a/t/1", {137, 9, true, "OOM \xffKilled"});
  waiters.push_back(client.start(driver_method("WaitTask"), for_task("a/t/1")));
  for (const auto waiter : waiters) {
    const auto response = only<pb::WaitTaskResponse>(client.wait_end(waiter));
    CHECK(response.result().exit_code() == 137);
    CHECK(response.result().signal() == 9);
    CHECK(response.result().oom_killed());
    CHECK(response.err() == "OOM \\xffKilled");
  }
  CHECK(PluginServer::eventually([] { return tests::subscriptions() == 0; }));
}

TEST_CASE("TaskStats streams at the wanted interval until the task ends or the agent does not want more") {
  PluginServer s;
  auto client = s.connect();
  CHECK(client.call(driver_method("TaskStats"), for_task("nobody")).status() == 5);
  client.call(driver_method("StartTask"), start_request());
  pb::TaskStatsRequest request;
  request.set_task_id("a/t/1");
  request.mutable_collection_interval()->set_seconds(5);
  const auto stream = client.start(driver_method("TaskStats"), request.SerializeAsString());
  const auto first = parse<pb::TaskStatsResponse>(client.wait_message(stream, 0));
  CHECK(first.has_stats());
  CHECK(first.stats().has_agg_resource_usage());
  CHECK(first.stats().id() == "a/t/1");
  CHECK(s.calls().back() == "stats a/t/1 5000 ms");
  CHECK(PluginServer::eventually([] { return tests::subscriptions() == 1; }));
  driver::TaskStats sample;
  sample.memory.rss = 12345;
  tests::samples().publish(sample);
  CHECK(parse<pb::TaskStatsResponse>(client.wait_message(stream, 1)).stats().agg_resource_usage().memory().rss() ==
        12345);
  const auto second = client.start(driver_method("TaskStats"), for_task("a/t/1"));
  client.wait_message(second, 0);
  CHECK(s.calls().back() == "stats a/t/1 1000 ms");
  client.reset(second, 8);
  CHECK(PluginServer::eventually([] { return tests::subscriptions() == 1; }));
  tests::end_task("a/t/1", {});
  CHECK(client.wait_end(stream).status() == 0);
  CHECK(PluginServer::eventually([] { return tests::subscriptions() == 0; }));
  request.mutable_collection_interval()->set_seconds(-1);
  CHECK(client.call(driver_method("TaskStats"), request.SerializeAsString()).status() == 3);
}

TEST_CASE("TaskStats of an agent that does not read: samples are skipped, not hoarded") {
  PluginServer s;
  auto client = s.connect();
  client.call(driver_method("StartTask"), start_request());
  client.stop_consuming();
  const auto stream = client.start(driver_method("TaskStats"), for_task("a/t/1"));
  client.wait_message(stream, 0);
  CHECK(PluginServer::eventually([] { return tests::subscriptions() == 1; }));
  for (int i = 0; i < 50'000; ++i) tests::samples().publish({});
  CHECK(tests::subscriptions() == 1);
  CHECK_FALSE(client.reply(stream).ended);
}

TEST_CASE("Fingerprint and TaskEvents stream, again and again") {
  PluginServer s;
  auto a = s.connect();
  auto b = s.connect();
  const auto first = a.start(driver_method("Fingerprint"), "");
  const auto second = a.start(driver_method("Fingerprint"), "");
  const auto third = b.start(driver_method("Fingerprint"), "");
  const auto now = parse<pb::FingerprintResponse>(a.wait_message(first, 0));
  CHECK(now.health() == pb::FingerprintResponse::HEALTHY);
  CHECK(now.health_description() == "healthy");
  CHECK(now.attributes().at("driver.containerd-driver.version").string_val() == "1.2.3");
  CHECK(now.attributes().at("odd").string_val() == "\xef\xbf\xbd");
  a.wait_message(second, 0);
  b.wait_message(third, 0);
  // The first answer comes before its subscription does.
  driver::Fingerprint broken{{}, driver::Health::kUnhealthy, "no runc"};
  CHECK(b.run_until([&] {
    tests::fingerprints().publish(broken);
    b.wait_message(third, 1);
    return true;
  }));
  CHECK(parse<pb::FingerprintResponse>(a.wait_message(first, 1)).health() == pb::FingerprintResponse::UNHEALTHY);
  CHECK(parse<pb::FingerprintResponse>(b.wait_message(third, 1)).health_description() == "no runc");

  const auto events = a.start(driver_method("TaskEvents"), "");
  const std::string hostile = "verifier: \x1b[2J\nok";
  const driver::TaskEvent event{{"a/t/1"}, "a", "t", driver::WallTime(5s), hostile, {{"image", "app:1\x1b"}}};
  CHECK(PluginServer::eventually([&] {
    tests::events().publish(event);
    return a.run_until([&] { return !a.reply(events).messages.empty(); }, 20ms);
  }));
  const auto message = parse<pb::DriverTaskEvent>(a.wait_message(events, 0));
  CHECK(message.task_id() == "a/t/1");
  CHECK(message.alloc_id() == "a");
  CHECK(message.task_name() == "t");
  CHECK(message.timestamp().seconds() == 5);
  // What others wrote does not move the cursor of the terminal that Nomad shows it in.
  CHECK(message.message() == "verifier: \\x1b[2J\\nok");
  CHECK(message.annotations().at("image") == "app:1\\x1b");
}

TEST_CASE("StopTask: 500 stubborn tasks hold no thread, an error is told, a reset ends the stop") {
  PluginServer s;
  auto client = s.connect();
  std::vector<std::int32_t> stops;
  for (int i = 0; i < 500; ++i) stops.push_back(client.start(driver_method("StopTask"), for_task("stubborn")));
  CHECK(client.run_until([] { return tests::subscriptions() == 500; }));
  CHECK(client.call(driver_method("InspectTask"), for_task("x")).status() == 5);
  CHECK(client.call(driver_method("StartTask"), start_request()).status() == 0);
  client.reset(stops.back(), 8);
  stops.pop_back();
  CHECK(PluginServer::eventually([] { return tests::subscriptions() == 499; }));
  tests::end_task("stubborn", {});
  for (const auto stop : stops) CHECK(client.wait_end(stop).status() == 0);
  const auto error = client.call(driver_method("StopTask"), for_task("immortal"));
  CHECK(error.status() != 0);
  CHECK(error.message().find("did not die") != std::string::npos);
}

TEST_CASE("Stop, Destroy, Signal, Inspect") {
  PluginServer s;
  auto client = s.connect();
  CHECK(client.call(driver_method("StopTask"), tests::golden("StopTask.request.1.bin")).status() == 0);
  CHECK(s.calls().back().starts_with("stop "));
  pb::StopTaskRequest forever;
  forever.mutable_timeout()->set_seconds(INT64_MAX);
  CHECK(client.call(driver_method("StopTask"), forever.SerializeAsString()).status() == 3);
  CHECK(client.call(driver_method("DestroyTask"), for_task("x")).status() == 9);
  CHECK(client.call(driver_method("DestroyTask"), tests::golden("DestroyTask.request.1.bin")).status() == 0);
  CHECK(s.calls().back().ends_with(" force"));
  pb::SignalTaskRequest signal;
  signal.set_task_id("x");
  signal.set_signal("SIGHUP");
  CHECK(client.call(driver_method("SignalTask"), signal.SerializeAsString()).status() == 0);
  signal.set_signal("INVALID");
  CHECK(client.call(driver_method("SignalTask"), signal.SerializeAsString()).message() == "Invalid signal: INVALID");
  CHECK(client.call(driver_method("InspectTask"), for_task("x")).status() == 5);
  client.call(driver_method("StartTask"), start_request());
  tests::fake().lock()->status.state = driver::TaskState::kRunning;
  const auto status = only<pb::InspectTaskResponse>(client.call(driver_method("InspectTask"), for_task("a/t/1")));
  CHECK(status.task().state() == pb::RUNNING);
  CHECK(status.task().has_result());
}

TEST_CASE("RecoverTask takes the id from the handle") {
  PluginServer s;
  auto client = s.connect();
  const auto request = parse<pb::RecoverTaskRequest>(tests::golden("RecoverTask.request.1.bin"));
  CHECK(request.task_id().empty());
  CHECK(request.handle().config().msgpack_driver_config().empty());
  CHECK(client.call(driver_method("RecoverTask"), request.SerializeAsString()).status() == 0);
  CHECK(s.calls().back() == base::str("recover ", request.handle().config().id(), " with ",
                                      request.handle().driver_state().size(), " bytes"));
  CHECK(client.call(driver_method("RecoverTask"), "").status() == 3);
  pb::RecoverTaskRequest newer;
  newer.mutable_handle()->mutable_config()->set_id("x");
  newer.mutable_handle()->set_version(2);
  CHECK(client.call(driver_method("RecoverTask"), newer.SerializeAsString()).status() == 9);
  newer.mutable_handle()->mutable_config()->clear_id();
  CHECK(client.call(driver_method("RecoverTask"), newer.SerializeAsString()).status() == 3);
}

TEST_CASE("what is optional or to come") {
  PluginServer s;
  auto client = s.connect();
  for (int i = 0; i < 3; ++i) {
    CHECK(client.call(driver_method("Init"), "").status() == 0);
    CHECK(client.call(driver_method("Shutdown"), "", {{"grpc-timeout", "2S"}}).status() == 0);
  }
  CHECK(s.calls().empty());
}

TEST_CASE("networks of groups: offered if the node says so, made once, given back as often as asked") {
  PluginServer s;
  auto client = s.connect();
  const auto must_create = [&] {
    return only<pb::CapabilitiesResponse>(client.call(driver_method("Capabilities"), ""))
        .capabilities()
        .must_create_network();
  };
  CHECK_FALSE(must_create());
  driver::PluginOptions options;
  options.networks = driver::NetworksBy::kDriver;
  tests::fake().lock()->options = options;
  CHECK(must_create());
  pb::CreateNetworkRequest create;
  create.set_alloc_id("a1");
  create.set_hostname("web");
  const std::string text = create.SerializeAsString();
  const auto made = only<pb::CreateNetworkResponse>(client.call(driver_method("CreateNetwork"), text));
  CHECK(made.created());
  CHECK(made.isolation_spec().mode() == pb::NetworkIsolationSpec::GROUP);
  CHECK(made.isolation_spec().path() == "/netns/a1");
  CHECK(made.isolation_spec().labels().at("docker_sandbox_hostname") == "web");
  CHECK_FALSE(only<pb::CreateNetworkResponse>(client.call(driver_method("CreateNetwork"), text)).created());
  create.set_alloc_id("a2");
  create.clear_hostname();
  const auto nameless =
      only<pb::CreateNetworkResponse>(client.call(driver_method("CreateNetwork"), create.SerializeAsString()));
  CHECK(nameless.isolation_spec().labels().empty());
  pb::DestroyNetworkRequest destroy;
  destroy.set_alloc_id("a1");
  for (int i = 0; i < 2; ++i) {
    CHECK(client.call(driver_method("DestroyNetwork"), destroy.SerializeAsString()).status() == 0);
  }
  CHECK(tests::fake().lock()->networks == std::set<std::string>{"a2"});
}

TEST_CASE("go-plugin's services") {
  PluginServer s;
  auto client = s.connect();
  const auto stdio = client.start("/plugin.GRPCStdio/StreamStdio", "");
  const auto broker = client.open("/plugin.GRPCBroker/StartStream");
  nomad::go_plugin::HealthCheckRequest check;
  for (const char* service : {"", "plugin"}) {
    check.set_service(service);
    const auto reply = client.call("/grpc.health.v1.Health/Check", check.SerializeAsString());
    CHECK(only<nomad::go_plugin::HealthCheckResponse>(reply).status() ==
          nomad::go_plugin::HealthCheckResponse::SERVING);
  }
  check.set_service("other");
  CHECK(client.call("/grpc.health.v1.Health/Check", check.SerializeAsString()).status() == 5);
  CHECK(client.call("/grpc.health.v1.Health/Watch", "").status() == 12);
  CHECK_FALSE(client.reply(stdio).ended);
  CHECK_FALSE(client.reply(broker).ended);
  CHECK_FALSE(s.shutdown.ready());
  CHECK(client.call("/plugin.GRPCController/Shutdown", "").status() == 0);
  CHECK(s.shutdown.wait(base::Context::background().with_timeout(20s)).has_value());
}
