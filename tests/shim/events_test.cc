#include "shim/events.h"

#include <doctest/doctest.h>

#include <vector>

#include "base/sync.h"
#include "shim/proto/events.pb.h"
#include "tests/temp_dir.h"
#include "ttrpc/client.h"

using base::Code;

namespace {

constexpr char kService[] = "containerd.services.events.ttrpc.v1.Events";

base::Context soon() {
  return base::Context::background().with_timeout(std::chrono::seconds(20));
}

std::string forward(const std::string& topic, const std::string& body) {
  shim::proto::ForwardRequest request;
  request.mutable_envelope()->set_topic(topic);
  request.mutable_envelope()->mutable_event()->set_value(body);
  return request.SerializeAsString();
}

std::string event_of(const std::string& container) {
  shim::proto::TaskEvent event;
  event.set_container_id(container);
  return event.SerializeAsString();
}

std::string exit_of(const std::string& container, const std::string& id, std::uint32_t status) {
  shim::proto::TaskExit event;
  event.set_container_id(container);
  event.set_id(id);
  event.set_pid(42);
  event.set_exit_status(status);
  return event.SerializeAsString();
}

struct Fixture {
  tests::TempDir dir;
  base::Loop loop;
  base::Guarded<std::vector<shim::Event>> seen;
  std::unique_ptr<shim::EventServer> server;
  std::shared_ptr<ttrpc::Client> client;

  Fixture() {
    auto listening = shim::EventServer::listen(loop, dir / "events.sock",
                                               [this](const shim::Event& event) { seen.lock()->push_back(event); });
    REQUIRE(listening.has_value());
    server = *std::move(listening);
    auto connected = ttrpc::Client::connect(loop, dir / "events.sock");
    REQUIRE(connected.has_value());
    client = *std::move(connected);
  }

  base::Result<std::string> send(const std::string& payload) const {
    return client->call(soon(), kService, "Forward", payload, {{"containerd-namespace-ttrpc", "containerd-driver"}});
  }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "events are answered empty and passed on") {
  for (const std::string& payload :
       {forward("/tasks/start", event_of("c1")), forward("/tasks/exit", exit_of("c1", "c1", 137)),
        forward("/tasks/exit", exit_of("c1", "e7", 3)), forward("/something/new", event_of("c2"))}) {
    const auto answer = send(payload);
    REQUIRE(answer.has_value());
    CHECK(answer->empty());
  }
  const auto events = *seen.lock();
  REQUIRE(events.size() == 4);
  CHECK(events[0].topic == "/tasks/start");
  CHECK(events[0].container_id == "c1");
  CHECK(events[1].exec_id.empty());
  CHECK(events[1].pid == 42);
  CHECK(events[1].exit_status == 137);
  CHECK(events[2].exec_id == "e7");
  CHECK(events[2].exit_status == 3);
  CHECK(events[3].container_id == "c2");
}

TEST_CASE_FIXTURE(Fixture, "a flood of OOM events is one, for each container") {
  for (int i = 0; i < 3000; ++i) {
    client->call_async(kService, "Forward", forward(shim::kTopicOom, event_of("c1")),
                       [](const base::Result<std::string>&) {});
    if (i % 500 == 0) REQUIRE(send(forward("/tasks/start", event_of("c1"))).has_value());
  }
  REQUIRE(send(forward(shim::kTopicOom, event_of("c2"))).has_value());
  int first = 0, second = 0;
  for (const shim::Event& event : *seen.lock()) {
    if (event.topic != shim::kTopicOom) continue;
    (event.container_id == "c1" ? first : second)++;
  }
  CHECK(first >= 1);
  CHECK(first <= 20);  // one a second
  CHECK(second == 1);
}

TEST_CASE_FIXTURE(Fixture, "what is no event is an error, and the server goes on") {
  CHECK(send("\xff\xff").error().code == Code::kInvalidArgument);
  CHECK(send("").error().code == Code::kInvalidArgument);
  CHECK(send(forward("/tasks/exit", "\xff")).error().code == Code::kInvalidArgument);
  CHECK(client->call(soon(), kService, "Backward", "").error().code == Code::kUnimplemented);
  CHECK(client->call(soon(), "other", "Forward", "").error().code == Code::kUnimplemented);
  CHECK(send(forward("/tasks/start", event_of("c1"))).has_value());
  CHECK(seen.lock()->size() == 1);
}
