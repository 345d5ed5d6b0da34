#include "plugin/convert.h"

#include <doctest/doctest.h>

#include "plugin/proto/base.pb.h"
#include "plugin/proto/driver.pb.h"
#include "plugin/proto/hclspec.pb.h"
#include "plugin/proto/well_known.pb.h"
#include "tests/plugin/golden.h"

using namespace std::chrono_literals;
namespace pb = nomad::driver;

namespace {

template <typename Message>
Message parse(const std::string& bytes) {
  Message message;
  CHECK(message.ParseFromString(bytes));
  return message;
}

/// Decoded and encoded again, a recorded message has its size again (map entries may come in another order) and says
/// the same.
template <typename Message>
void check_round_trip(const std::string& name) {
  CAPTURE(name);
  const std::string recorded = tests::golden(name);
  const auto message = parse<Message>(recorded);
  const std::string again = message.SerializeAsString();
  CHECK(again.size() == recorded.size());
  std::string sorted_recorded = recorded, sorted_again = again;
  std::sort(sorted_recorded.begin(), sorted_recorded.end());
  std::sort(sorted_again.begin(), sorted_again.end());
  CHECK(sorted_again == sorted_recorded);
}

}  // namespace

TEST_CASE("recorded messages survive decoding and encoding") {
  check_round_trip<pb::CapabilitiesResponse>("Capabilities.reply.1.bin");
  check_round_trip<nomad::base::ConfigSchemaResponse>("ConfigSchema.reply.1.bin");
  check_round_trip<pb::DestroyTaskRequest>("DestroyTask.request.1.bin");
  check_round_trip<pb::DestroyTaskRequest>("DestroyTask.request.5.bin");
  for (int i = 1; i <= 7; ++i) {
    check_round_trip<pb::ExecTaskStreamingResponse>(base::str("ExecTaskStreaming.reply.", i, ".bin"));
  }
  for (int i = 1; i <= 4; ++i) {
    check_round_trip<pb::ExecTaskStreamingRequest>(base::str("ExecTaskStreaming.request.", i, ".bin"));
  }
  check_round_trip<pb::FingerprintResponse>("Fingerprint.reply.1.bin");
  check_round_trip<nomad::base::PluginInfoResponse>("PluginInfo.reply.1.bin");
  check_round_trip<pb::RecoverTaskRequest>("RecoverTask.request.1.bin");
  check_round_trip<pb::RecoverTaskRequest>("RecoverTask.request.2.bin");
  check_round_trip<nomad::base::SetConfigRequest>("SetConfig.request.1.bin");
  check_round_trip<nomad::base::SetConfigRequest>("SetConfig.request.3.bin");
  check_round_trip<pb::SignalTaskRequest>("SignalTask.request.1.bin");
  check_round_trip<pb::SignalTaskRequest>("SignalTask.request.2.bin");
  check_round_trip<pb::StartTaskResponse>("StartTask.reply.1.bin");
  check_round_trip<pb::StartTaskResponse>("StartTask.reply.6.bin");
  check_round_trip<pb::StartTaskRequest>("StartTask.request.1.bin");
  check_round_trip<pb::StartTaskRequest>("StartTask.request.8.bin");
  check_round_trip<pb::StopTaskRequest>("StopTask.request.1.bin");
  check_round_trip<pb::StopTaskRequest>("StopTask.request.2.bin");
  check_round_trip<pb::TaskConfigSchemaResponse>("TaskConfigSchema.reply.1.bin");
  check_round_trip<pb::TaskStatsResponse>("TaskStats.reply.1.bin");
  check_round_trip<pb::TaskStatsResponse>("TaskStats.reply.2.bin");
  check_round_trip<pb::TaskStatsRequest>("TaskStats.request.1.bin");
  check_round_trip<pb::TaskStatsRequest>("TaskStats.request.2.bin");
  check_round_trip<pb::WaitTaskResponse>("WaitTask.reply.1.bin");
  check_round_trip<pb::WaitTaskRequest>("WaitTask.request.1.bin");
  check_round_trip<pb::WaitTaskRequest>("WaitTask.request.2.bin");
}

TEST_CASE("recorded messages mean what they meant to the agent") {
  const auto stop = parse<pb::StopTaskRequest>(tests::golden("StopTask.request.1.bin"));
  CHECK(plugin::to_duration(stop.timeout()).value_or(0ns).count() > 0);
  const auto stats = parse<pb::TaskStatsRequest>(tests::golden("TaskStats.request.1.bin"));
  CHECK(plugin::to_duration(stats.collection_interval()).value_or(0ns) == 1s);
  const auto caps = parse<pb::CapabilitiesResponse>(tests::golden("Capabilities.reply.1.bin")).capabilities();
  CHECK(caps.fs_isolation() == pb::DriverCapabilities::IMAGE);
  const auto sample = parse<pb::TaskStatsResponse>(tests::golden("TaskStats.reply.1.bin")).stats();
  CHECK(sample.has_agg_resource_usage());
  const auto exec = parse<pb::ExecTaskStreamingRequest>(tests::golden("ExecTaskStreaming.request.1.bin"));
  CHECK(exec.setup().command_size() == 3);
  const auto info = parse<nomad::base::PluginInfoResponse>(tests::golden("PluginInfo.reply.1.bin"));
  CHECK(info.type() == nomad::base::DRIVER);
  CHECK(info.plugin_api_versions(0) == "v0.1.0");
}

TEST_CASE("the full recorded task configuration") {
  auto request = parse<pb::StartTaskRequest>(tests::golden("StartTask.request.8.bin"));
  const auto& resources = request.task().resources();
  CHECK(resources.linux_resources().percent_ticks() == 0.5);
  // Options that this driver does not have yet are the decoder's business; here it is the rest that counts.
  request.mutable_task()->set_msgpack_driver_config(
      "\x81\xa5image\xa5"
      "app:1");
  const auto converted = plugin::to_task_spec(request.task());
  REQUIRE_MESSAGE(converted.has_value(), converted.error().message);
  const driver::TaskSpec& spec = *converted;
  CHECK(spec.id.text == "294c7f2e-9e95-a5b5-5a8b-d94ad8b8348d/web/288edfb1");
  CHECK(spec.name == "web");
  CHECK(spec.alloc_id == "294c7f2e-9e95-a5b5-5a8b-d94ad8b8348d");
  CHECK(spec.job_name == "full");
  CHECK(spec.job_id == "full");
  CHECK(spec.group_name == "g");
  CHECK(spec.namespace_name == "default");
  CHECK(spec.node_name == "vm");
  CHECK(spec.node_id == "0b350406-9fcf-a218-4882-c8487905267d");
  CHECK(spec.options.image == "app:1");
  CHECK(spec.env.at("NOMAD_SECRETS_DIR") == "/secrets");
  CHECK(spec.env.at("A") == "1");
  CHECK(spec.user == "nobody");
  CHECK(spec.alloc_dir == "/srv/nomad/data/alloc/294c7f2e-9e95-a5b5-5a8b-d94ad8b8348d");
  CHECK(spec.stdout_path == spec.alloc_dir + "/alloc/logs/.web.stdout.fifo");
  CHECK(spec.stderr_path == spec.alloc_dir + "/alloc/logs/.web.stderr.fifo");
  CHECK(spec.resources.cpu_shares == 2596);
  CHECK(spec.resources.memory_bytes == 32 << 20);
  CHECK(spec.resources.memory_max_bytes == 0);
  CHECK(spec.resources.cpuset_cpus == "0");
  CHECK(spec.resources.cpuset_cgroup.ends_with("/reserve/294c7f2e-9e95-a5b5-5a8b-d94ad8b8348d.web"));
  REQUIRE(spec.mounts.size() == 1);
  CHECK(spec.mounts[0].task_path == "/data");
  CHECK(spec.mounts[0].host_path == "/srv/nomad/vol");
  CHECK(spec.mounts[0].readonly);
  CHECK(spec.mounts[0].propagation == "private");
  REQUIRE(spec.network.has_value());
  CHECK(spec.network->mode == driver::NetworkMode::kGroup);
  CHECK(spec.network->path == "/var/run/netns/294c7f2e-9e95-a5b5-5a8b-d94ad8b8348d");
  REQUIRE(spec.dns.has_value());
  CHECK(spec.dns->searches == std::vector<std::string>{"corp"});
  CHECK(spec.dns->options == std::vector<std::string>{"ndots:2"});
  REQUIRE(spec.ports.size() == 2);
  CHECK(spec.ports[0].label == "adm");
  CHECK(spec.ports[0].value == 18889);
  CHECK(spec.ports[0].to == 8889);
  CHECK(spec.ports[0].host_ip == "192.0.2.2");
}

TEST_CASE("configurations that no agent sends") {
  const auto code = [](const pb::TaskConfig& config) {
    const auto converted = plugin::to_task_spec(config);
    return converted ? base::Code::kOk : converted.error().code;
  };
  pb::TaskConfig good;
  good.set_id("a/b/c");
  good.set_msgpack_driver_config(
      "\x81\xa5image\xa5"
      "app:1");
  CHECK(code(good) == base::Code::kOk);

  pb::TaskConfig bad;
  CHECK(code(bad) == base::Code::kInvalidArgument);
  bad = good;
  bad.set_msgpack_driver_config("\xc1");
  CHECK(code(bad) == base::Code::kInvalidArgument);
  bad.set_msgpack_driver_config("\x91\x01");  // an array
  CHECK(code(bad) == base::Code::kInvalidArgument);
  bad.set_msgpack_driver_config(std::string(100, '\x91') + "\xc0");  // a hundred arrays deep
  CHECK(code(bad) == base::Code::kResourceExhausted);
  bad.set_msgpack_driver_config(std::string(plugin::kListEntriesMax * 2048, '\xc0'));
  CHECK(code(bad) == base::Code::kResourceExhausted);
  bad = good;
  bad.mutable_resources()->mutable_allocated_resources()->mutable_memory()->set_memory_mb(-5);
  CHECK(code(bad) == base::Code::kInvalidArgument);
  bad.mutable_resources()->mutable_allocated_resources()->mutable_memory()->set_memory_mb(INT64_MAX);
  CHECK(code(bad) == base::Code::kInvalidArgument);
  bad = good;
  bad.mutable_resources()->mutable_allocated_resources()->mutable_cpu()->set_cpu_shares(-1);
  CHECK(code(bad) == base::Code::kInvalidArgument);
  bad = good;
  bad.mutable_network_isolation_spec()->set_mode(static_cast<pb::NetworkIsolationSpec::NetworkIsolationMode>(17));
  CHECK(code(bad) == base::Code::kInvalidArgument);
  bad = good;
  for (int i = 0; i <= plugin::kListEntriesMax; ++i) bad.add_mounts();
  CHECK(code(bad) == base::Code::kResourceExhausted);
}

TEST_CASE("memory: unlimited, maximum, and what only a harness sends") {
  pb::TaskConfig config;
  config.set_id("a/b/c");
  config.set_msgpack_driver_config(
      "\x81\xa5image\xa5"
      "app:1");
  auto* memory = config.mutable_resources()->mutable_allocated_resources()->mutable_memory();
  memory->set_memory_mb(10);
  memory->set_memory_max_mb(-1);
  CHECK(plugin::to_task_spec(config)->resources.memory_max_bytes == -1);
  memory->set_memory_max_mb(20);
  CHECK(plugin::to_task_spec(config)->resources.memory_max_bytes == 20 << 20);
  config.mutable_resources()->clear_allocated_resources();
  config.mutable_resources()->mutable_linux_resources()->set_memory_limit_bytes(4096);
  config.mutable_resources()->mutable_linux_resources()->set_cpu_shares(77);
  CHECK(plugin::to_task_spec(config)->resources.memory_bytes == 4096);
  CHECK(plugin::to_task_spec(config)->resources.cpu_shares == 77);
  CHECK_FALSE(plugin::to_task_spec(config)->network.has_value());
  CHECK_FALSE(plugin::to_task_spec(config)->dns.has_value());
}

TEST_CASE("node topology") {
  const auto set = parse<nomad::base::SetConfigRequest>(tests::golden("SetConfig.request.3.bin"));
  const auto node = plugin::to_node_info(set.nomad_config().driver().topology());
  CHECK(node.core_mhz == 2596);
  CHECK(node.total_compute_mhz == 2 * 2596);
  const auto none = plugin::to_node_info(nomad::base::ClientTopology());
  CHECK(none.core_mhz == 0);
  CHECK(none.total_compute_mhz == 0);
  nomad::base::ClientTopology overridden;
  auto* core = overridden.add_cores();
  core->set_guess_speed(100);
  CHECK(plugin::to_node_info(overridden).core_mhz == 100);
  core->set_max_speed(200);
  CHECK(plugin::to_node_info(overridden).core_mhz == 200);
  core->set_base_speed(300);
  CHECK(plugin::to_node_info(overridden).core_mhz == 300);
  overridden.add_cores()->set_disable(true);
  overridden.set_override_total_compute(5000);
  CHECK(plugin::to_node_info(overridden).core_mhz == 2500);
}

TEST_CASE("durations and times") {
  nomad::wkt::Duration duration;
  duration.set_seconds(5);
  duration.set_nanos(250'000'000);
  CHECK(plugin::to_duration(duration).value_or(0ns) == 5250ms);
  for (const std::int64_t seconds : {std::int64_t{-1}, INT64_MIN, INT64_MAX}) {
    duration.set_seconds(seconds);
    CHECK_FALSE(plugin::to_duration(duration).has_value());
  }
  duration.set_seconds(0);
  for (const std::int32_t nanos : {-1, 1'000'000'000, INT32_MIN}) {
    duration.set_nanos(nanos);
    CHECK_FALSE(plugin::to_duration(duration).has_value());
  }
  nomad::wkt::Timestamp time;
  plugin::fill(std::nullopt, &time);
  CHECK(time.seconds() == -62'135'596'800);
  plugin::fill(driver::WallTime(1500ms), &time);
  CHECK(time.seconds() == 1);
  CHECK(time.nanos() == 500'000'000);
  plugin::fill(driver::WallTime(-1ms), &time);
  CHECK(time.seconds() == -1);
  CHECK(time.nanos() == 999'000'000);
}

TEST_CASE("statistics say what was measured") {
  driver::TaskStats stats;
  stats.cpu = {1, 2, 3, 4, 5, 6};
  stats.memory.rss = 7;
  pb::TaskStats out;
  plugin::fill({"id"}, stats, &out);
  CHECK(out.has_timestamp());
  CHECK(out.agg_resource_usage().cpu().system_mode() == 1);
  CHECK(out.agg_resource_usage().cpu().percent() == 3);
  CHECK(out.agg_resource_usage().cpu().total_ticks() == 4);
  CHECK(out.agg_resource_usage().cpu().throttled_time() == 6);
  CHECK(out.agg_resource_usage().cpu().measured_fields_size() == 5);
  CHECK(out.agg_resource_usage().memory().measured_fields_size() == 4);
  stats.memory.has_max_usage = stats.memory.has_kernel_usage = true;
  pb::TaskStats v1;
  plugin::fill({"id"}, stats, &v1);
  CHECK(v1.agg_resource_usage().memory().measured_fields_size() == 7);
}

TEST_CASE("a status always has its task and result") {
  pb::InspectTaskResponse out;
  plugin::fill(driver::TaskStatus{}, &out);
  CHECK(out.has_task());
  CHECK(out.task().has_result());
  CHECK(out.task().has_started_at());
  CHECK(out.task().has_completed_at());
  driver::TaskStatus exited;
  exited.state = driver::TaskState::kExited;
  exited.exit = driver::ExitResult{137, 9, true, "OOM Killed"};
  exited.attributes = {{"image", "sha256:1"}, {"bad", "\xc3"}};
  pb::InspectTaskResponse full;
  plugin::fill(exited, &full);
  CHECK(full.task().state() == pb::EXITED);
  CHECK(full.task().result().exit_code() == 137);
  CHECK(full.task().result().signal() == 9);
  CHECK(full.task().result().oom_killed());
  CHECK(full.driver().attributes().at("image") == "sha256:1");
  CHECK(full.driver().attributes().at("bad") == "\xef\xbf\xbd");
}

TEST_CASE("capabilities") {
  const auto caps = plugin::capabilities(driver::NetworksBy::kAgent);
  CHECK(caps.send_signals());
  CHECK(caps.exec());
  CHECK(caps.fs_isolation() == pb::DriverCapabilities::IMAGE);
  CHECK(caps.network_isolation_modes_size() == 3);
  CHECK_FALSE(caps.must_create_network());
  CHECK(plugin::capabilities(driver::NetworksBy::kDriver).must_create_network());
  CHECK_FALSE(caps.disable_log_collection());
}
