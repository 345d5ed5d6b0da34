// doctest has to come after result.h: its CHECK is the one meant here.
// clang-format off
#include "plugin/services.h"

#include <doctest/doctest.h>

#include "plugin/proto/driver.pb.h"
#include "plugin/proto/well_known.pb.h"
#include "tests/plugin/golden.h"
#include "tests/plugin/plugin_server.h"
// clang-format on

using namespace std::chrono_literals;
using driver::ExecStream;
using tests::driver_method;
using tests::PluginServer;
namespace pb = nomad::driver;

namespace {

using Told = std::vector<std::string>;

std::string setup(const std::string& id = "x", bool tty = false) {
  pb::ExecTaskStreamingRequest request;
  request.mutable_setup()->set_task_id(id);
  request.mutable_setup()->add_command("sh");
  request.mutable_setup()->set_tty(tty);
  return request.SerializeAsString();
}

std::string stdin_data(const std::string& data) {
  pb::ExecTaskStreamingRequest request;
  request.mutable_stdin()->set_data(data);
  return request.SerializeAsString();
}

std::string stdin_close() {
  pb::ExecTaskStreamingRequest request;
  request.mutable_stdin()->set_close(true);
  return request.SerializeAsString();
}

std::string size(int height, int width) {
  pb::ExecTaskStreamingRequest request;
  request.mutable_tty_size()->set_height(height);
  request.mutable_tty_size()->set_width(width);
  return request.SerializeAsString();
}

std::string exec_request(std::chrono::seconds timeout) {
  pb::ExecTaskRequest request;
  request.set_task_id("x");
  request.add_command("/bin/sh");
  request.add_command("a b");
  request.mutable_timeout()->set_seconds(timeout.count());
  return request.SerializeAsString();
}

/// The command of the last call, once the driver has it.
std::shared_ptr<tests::FakeExec> begun(tests::GrpcClient& client) {
  CHECK(client.run_until([] { return tests::last_exec() != nullptr; }));
  return tests::last_exec();
}

/// What the driver does, it does on the loop.
void on_loop(PluginServer& s, const std::function<void()>& fn) {
  s.loop.run(fn);
}

Told told(tests::GrpcClient& client, const std::shared_ptr<tests::FakeExec>& exec, std::size_t count) {
  client.run_until([&] { return exec->told.lock()->size() >= count; });
  return *exec->told.lock();
}

}  // namespace

TEST_CASE("ExecTask: what it asks of the driver, and its answer") {
  PluginServer s;
  auto client = s.connect();
  const auto stream = client.start(driver_method("ExecTask"), exec_request(7s));
  const auto exec = begun(client);
  CHECK(s.calls().back() == "exec x [/bin/sh] [a b]");
  CHECK(exec->spec.timeout == 7s);
  CHECK_FALSE(exec->spec.tty);
  CHECK_FALSE(exec->spec.has_stdin);
  CHECK(exec->spec.drain_after_exit.has_value());
  on_loop(s, [&] {
    CHECK(exec->callbacks.on_output(ExecStream::kStdout, "out"));
    CHECK(exec->callbacks.on_output(ExecStream::kStderr, "err\xff"));
    exec->callbacks.on_end(driver::ExitResult{3, 0, false, ""});
  });
  const auto& reply = client.wait_end(stream);
  CHECK(reply.status() == 0);
  REQUIRE(reply.messages.size() == 1);
  pb::ExecTaskResponse response;
  CHECK(response.ParseFromString(reply.messages[0]));
  CHECK(response.stdout() == "out");
  CHECK(response.stderr() == "err\xff");
  CHECK(response.has_result());
  CHECK(response.result().exit_code() == 3);
}

TEST_CASE("ExecTask keeps 4 KiB of each output and never asks for a pause") {
  PluginServer s;
  auto client = s.connect();
  const auto stream = client.start(driver_method("ExecTask"), exec_request(0s));
  const auto exec = begun(client);
  CHECK(exec->spec.timeout == 0s);
  on_loop(s, [&] {
    for (int i = 0; i < 10; ++i) CHECK(exec->callbacks.on_output(ExecStream::kStdout, std::string(1000, 'o')));
    CHECK(exec->callbacks.on_output(ExecStream::kStderr, std::string(100'000, 'e')));
    exec->callbacks.on_end(driver::ExitResult{});
  });
  pb::ExecTaskResponse response;
  CHECK(response.ParseFromString(client.wait_message(stream, 0)));
  CHECK(response.stdout() == std::string(4096, 'o'));
  CHECK(response.stderr() == std::string(4096, 'e'));
  CHECK(response.has_result());
}

TEST_CASE("ExecTask: errors before and after the start") {
  PluginServer s;
  auto client = s.connect();
  tests::fake().lock()->exec_error = base::Error::not_found("task not found for given id: x");
  CHECK(client.call(driver_method("ExecTask"), exec_request(1s)).status() == 5);
  tests::fake().lock()->exec_error.reset();
  CHECK(client.call(driver_method("ExecTask"), "\xff").status() == 3);
  pb::ExecTaskRequest negative;
  negative.mutable_timeout()->set_seconds(-1);
  CHECK(client.call(driver_method("ExecTask"), negative.SerializeAsString()).status() == 3);

  const auto stream = client.start(driver_method("ExecTask"), exec_request(1s));
  const auto exec = begun(client);
  on_loop(s, [&] { exec->callbacks.on_end(base::Error::deadline_exceeded("sh did not end within 1 s")); });
  CHECK(client.wait_end(stream).status() == 4);
  CHECK(client.wait_end(stream).message() == "sh did not end within 1 s");
}

TEST_CASE("a command whose caller is gone is cancelled, one that has ended is left alone") {
  PluginServer s;
  for (const char* method : {"ExecTask", "ExecTaskStreaming"}) {
    CAPTURE(method);
    const bool streaming = std::string(method) == "ExecTaskStreaming";
    tests::reset_fake();
    auto client = s.connect();
    const auto stream = client.open(driver_method(method));
    client.send(stream, streaming ? setup() : exec_request(0s));
    if (!streaming) client.half_close(stream);
    const auto exec = begun(client);
    client.reset(stream, 8);
    CHECK(told(client, exec, 1) == Told{"cancel"});
    exec->callbacks = {};

    tests::reset_fake();
    {
      auto lost = s.connect();
      const auto call = lost.open(driver_method(method));
      lost.send(call, streaming ? setup() : exec_request(0s));
      if (!streaming) lost.half_close(call);
      begun(lost);
    }
    const auto orphan = tests::last_exec();
    CHECK(PluginServer::eventually([&] { return *orphan->told.lock() == Told{"cancel"}; }));
    orphan->callbacks = {};
  }
}

// The bytes of a real agent's session, and the reply of a driver written in Go to it.
TEST_CASE("ExecTaskStreaming as an agent speaks it") {
  PluginServer s;
  auto client = s.connect();
  const auto stream = client.open(driver_method("ExecTaskStreaming"));
  client.send(stream, tests::golden("ExecTaskStreaming.request.1.bin"));
  const auto exec = begun(client);
  CHECK(exec->spec.command == std::vector<std::string>{"sh", "-c", "id; ls -la /data /x; echo err >&2; exit 5"});
  CHECK(exec->spec.has_stdin);
  CHECK_FALSE(exec->spec.tty);
  CHECK_FALSE(exec->spec.drain_after_exit.has_value());
  client.send(stream, "");  // a heartbeat
  client.send(stream, tests::golden("ExecTaskStreaming.request.2.bin"));
  CHECK(told(client, exec, 3) == Told{"heartbeat", "heartbeat", "eof"});

  pb::ExecTaskStreamingResponse out;
  pb::ExecTaskStreamingResponse err;
  CHECK(out.ParseFromString(tests::golden("ExecTaskStreaming.reply.1.bin")));
  CHECK(err.ParseFromString(tests::golden("ExecTaskStreaming.reply.3.bin")));
  on_loop(s, [&] {
    exec->callbacks.on_output(ExecStream::kStdout, out.stdout().data());
    exec->callbacks.on_output(ExecStream::kStderr, err.stderr().data());
    exec->callbacks.on_end(driver::ExitResult{5, 0, false, ""});
  });
  const auto& reply = client.wait_end(stream);
  CHECK(reply.status() == 0);
  REQUIRE(reply.messages.size() == 5);
  CHECK(reply.messages[0] == tests::golden("ExecTaskStreaming.reply.1.bin"));
  CHECK(reply.messages[1] == tests::golden("ExecTaskStreaming.reply.3.bin"));
  CHECK(reply.messages[2] == tests::golden("ExecTaskStreaming.reply.4.bin"));  // stdout is closed
  CHECK(reply.messages[3] == tests::golden("ExecTaskStreaming.reply.5.bin"));  // and stderr
  CHECK(reply.messages[4] == tests::golden("ExecTaskStreaming.reply.6.bin"));  // exited with 5
}

TEST_CASE("terminal sizes and input reach the command in order, nonsense does not") {
  PluginServer s;
  auto client = s.connect();
  const auto stream = client.open(driver_method("ExecTaskStreaming"));
  client.send(stream, setup("x", true));
  for (const auto& message : {size(24, 80), stdin_data("a"), size(0, 80), size(-3, -3), stdin_data(""), std::string(),
                              stdin_data("b"), size(50, 132), stdin_close()}) {
    client.send(stream, message);
  }
  const auto exec = begun(client);
  CHECK(exec->spec.tty);
  // From the first heartbeat on, all that comes is a sign of life.
  CHECK(told(client, exec, 9) == Told{"resize 24x80", "stdin a", "heartbeat", "heartbeat", "stdin b", "heartbeat",
                                      "resize 50x132", "heartbeat", "eof"});
  client.half_close(stream);
  CHECK(told(client, exec, 10).back() == "eof");
  on_loop(s, [&] { exec->callbacks.on_end(driver::ExitResult{}); });
  CHECK(client.wait_end(stream).status() == 0);
}

TEST_CASE("what does not begin with a setup, or has two, ends") {
  PluginServer s;
  struct Row {
    const char* name;
    std::vector<std::string> messages;
    bool half_close;
  };
  for (const Row& row :
       {Row{"a heartbeat first", {""}, false}, Row{"input first", {stdin_data("x")}, false},
        Row{"no protobuf", {"\xff\xff"}, false}, Row{"nothing at all", {}, true},
        Row{"two setups", {setup(), setup()}, false}, Row{"garbage later", {setup(), "\xff\xff"}, false}}) {
    CAPTURE(row.name);
    tests::reset_fake();
    auto client = s.connect();
    const auto stream = client.open(driver_method("ExecTaskStreaming"));
    for (const auto& message : row.messages) client.send(stream, message);
    if (row.half_close) client.half_close(stream);
    CHECK(client.wait_end(stream).status() == 3);
    const auto exec = tests::last_exec();
    CHECK((exec != nullptr) == (row.messages.size() == 2));
    if (!exec) continue;
    CHECK(told(client, exec, 1) == Told{"cancel"});
    exec->callbacks = {};
  }
  tests::fake().lock()->exec_error = base::Error::not_found("task not found for given id: x");
  auto client = s.connect();
  const auto stream = client.open(driver_method("ExecTaskStreaming"));
  client.send(stream, setup());
  CHECK(client.wait_end(stream).status() == 5);
}

TEST_CASE("a caller that does not read is told to the command, and so is that it reads again") {
  PluginServer s;
  auto client = s.connect();
  client.stop_consuming();
  const auto stream = client.open(driver_method("ExecTaskStreaming"));
  client.send(stream, setup());
  const auto exec = begun(client);
  std::size_t sent = 0;
  bool more = true;
  while (more && sent < 16u << 20) {
    on_loop(s, [&] { more = exec->callbacks.on_output(ExecStream::kStdout, std::string(16'384, 'x')); });
    sent += 16'384;
  }
  CHECK_FALSE(more);
  CHECK(sent < 1u << 20);
  CHECK(exec->told.lock()->empty());
  client.reset(stream, 8);
  CHECK(told(client, exec, 1).back() == "cancel");
  exec->callbacks = {};
}

TEST_CASE("a command that does not read holds up its caller") {
  PluginServer s;
  auto client = s.connect();
  const auto stream = client.open(driver_method("ExecTaskStreaming"));
  client.send(stream, setup());
  const auto exec = begun(client);
  exec->stdin_full = true;
  client.send(stream, stdin_data("first"));
  client.send(stream, stdin_data("second"));
  client.send(stream, size(1, 2));
  CHECK(told(client, exec, 1) == Told{"stdin first"});
  CHECK_FALSE(client.run_until([&] { return exec->told.lock()->size() > 1; }, 50ms));
  exec->stdin_full = false;
  on_loop(s, [&] { exec->callbacks.on_stdin_drained(); });
  CHECK(told(client, exec, 3) == Told{"stdin first", "stdin second", "resize 1x2"});
  on_loop(s, [&] { exec->callbacks.on_end(base::Error::aborted("the end of sh is unknown")); });
  CHECK(client.wait_end(stream).status() == 10);
}
