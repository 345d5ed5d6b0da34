// A server with one method of each kind, for the tests of src/grpc.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/crew.h"
#include "base/loop.h"
#include "base/sync.h"
#include "grpc/server.h"
#include "tests/grpc/client.h"

namespace tests {

struct TestServer {
  TestServer() : crew({.name = "calls", .idle_time = std::chrono::milliseconds(100)}), server(loop, crew) {
    using base::Context;
    server.unary("/t.T/Echo", [](const Context&, std::string_view request) -> base::Result<std::string> {
      return std::string(request);
    });
    server.unary("/t.T/Fail", [](const Context&, std::string_view request) -> base::Result<std::string> {
      return base::Error{base::Code::kNotFound, std::string(request)};
    });
    // Blocks until its context ends, and tells how.
    server.unary("/t.T/Block", [this](const Context& ctx, std::string_view) -> base::Result<std::string> {
      blocking.set(true);
      const auto slept = ctx.sleep(std::chrono::seconds(30));
      blocked_end.set(slept ? base::Code::kOk : slept.error().code);
      return slept ? base::Result<std::string>(std::string("slept")) : base::Result<std::string>(slept.error());
    });
    // Leaves its call in `parked`, for the test to answer.
    server.async("/t.T/Park", [this](const std::shared_ptr<grpc::Call>& call, const std::string& request) {
      call->keep(base::Subscription([this] { ++*dropped.lock(); }));
      call->on_cancel([this] { ++*cancelled.lock(); });
      parked.lock()->emplace(request, call);
    });
    server.bidi("/t.T/EchoStream", [](const std::shared_ptr<grpc::Call>& call) {
      return grpc::BidiHandlers{[call](const std::string& message) { call->send(message); },
                                [call] { call->finish({}); }};
    });
    // Takes one message, then pauses; `parked["paused"]` resumes it. Answers with what it got when the client ends.
    server.bidi("/t.T/Paused", [this](const std::shared_ptr<grpc::Call>& call) {
      parked.lock()->emplace("paused", call);
      return grpc::BidiHandlers{[this, call](const std::string& message) {
                                  received.lock()->push_back(message);
                                  if (received.lock()->size() == 1) call->pause_reading();
                                },
                                [this, call] { call->reply(std::to_string(received.lock()->size())); }};
    });
    server.constant("/t.T/Constant", "always the same");
    server.refuse("/t.T/Refused", {base::Code::kUnimplemented, "not in this version"});
    server.unary(
        "/t.T/Detailed",
        [](const Context&, std::string_view) -> base::Result<std::string> { return base::Error::unavailable("later"); },
        [](const base::Error& e) {
          return grpc::Status{base::Code::kFailedPrecondition, e.message, "\1\2\xff"};
        });
  }

  GrpcClient connect() {
    auto pair = socket_pair();
    server.serve(std::move(pair.theirs));
    return GrpcClient(std::move(pair.ours));
  }
  base::Fd connect_raw() {
    auto pair = socket_pair();
    server.serve(std::move(pair.theirs));
    return std::move(pair.ours);
  }
  std::shared_ptr<grpc::Call> wait_parked(const std::string& name) {
    std::shared_ptr<grpc::Call> call;
    eventually([&] {
      auto now = parked.lock();
      const auto it = now->find(name);
      if (it != now->end()) call = it->second;
      return call != nullptr;
    });
    return call;
  }
  static bool eventually(const std::function<bool()>& done) {
    const auto deadline = base::Clock::now() + std::chrono::seconds(20);
    while (!done()) {
      if (base::Clock::now() > deadline) return false;
      [[maybe_unused]] const auto slept = base::Context::background().sleep(std::chrono::milliseconds(1));
    }
    return true;
  }
  bool idle() {
    const auto load = server.load();
    return load.calls == 0 && load.request_bytes == 0;
  }

  base::OneShot<bool> blocking;
  base::OneShot<base::Code> blocked_end;
  base::Guarded<int> dropped;
  base::Guarded<int> cancelled;
  base::Guarded<std::map<std::string, std::shared_ptr<grpc::Call>>> parked;
  base::Guarded<std::vector<std::string>> received;
  base::Loop loop;
  base::Crew crew;
  grpc::Server server;
};

}  // namespace tests
