#include "ttrpc/client.h"

#include <doctest/doctest.h>

#include <atomic>
#include <set>
#include <thread>

#include "base/sync.h"
#include "tests/temp_dir.h"
#include "tests/ttrpc/raw_peer.h"

using base::Code;
using base::Context;
using ttrpc::Client;
using ttrpc_test::eventually;
using ttrpc_test::header;
using ttrpc_test::must;
using ttrpc_test::RawPeer;
using ttrpc_test::socket_pair;
using ttrpc_test::soon;
using namespace std::chrono_literals;

namespace {

using Answer = base::OneShot<base::Result<std::string>>;

struct Fixture {
  base::Loop loop;
  std::shared_ptr<Client> client;
  std::unique_ptr<RawPeer> peer;

  Fixture() {
    auto [ours, theirs] = socket_pair();
    client = Client::over(loop, std::move(ours));
    peer = std::make_unique<RawPeer>(std::move(theirs));
  }

  Answer call(const std::string& method, const std::string& payload = "") const {
    Answer answer;
    client->call_async("svc", method, payload,
                       [answer](base::Result<std::string> result) { answer.set(std::move(result)); });
    return answer;
  }
  /// The same, and taken off the wire by the peer: an answer before its question would be dropped.
  Answer asked(const std::string& method) const {
    Answer answer = call(method);
    CHECK(peer->read_request().method() == method);
    return answer;
  }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "a call and its answer") {
  std::thread server([&] {
    std::uint32_t stream_id = 0;
    const auto request = peer->read_request(&stream_id);
    CHECK(stream_id == 1);
    CHECK(request.service() == "svc");
    CHECK(request.method() == "Do");
    CHECK(request.payload() == "in");
    CHECK(request.timeout_nano() > 0);
    CHECK(request.timeout_nano() <= std::chrono::nanoseconds(20s).count());
    REQUIRE(request.metadata_size() == 2);
    CHECK(request.metadata(0).key() == "k");
    CHECK(request.metadata(1).value() == "v2");
    peer->respond(stream_id, "out");
    // Success with neither status nor payload: an empty frame.
    peer->read_request(&stream_id);
    CHECK(stream_id == 3);
    peer->send(header(0, stream_id, 2));
  });
  CHECK(must(client->call(soon(), "svc", "Do", "in", {{"k", "v"}, {"k", "v2"}})) == "out");
  CHECK(must(client->call(soon(), "svc", "Do", "in")).empty());
  server.join();
}

TEST_CASE_FIXTURE(Fixture, "the peer's error is the call's error") {
  const Answer first = asked("a"), second = asked("b");
  peer->respond(1, "", 5, "container not created");
  peer->respond(3, "ignored", 77, std::string("\xff\xfe not utf-8"));
  const auto not_found = must(first.wait(soon()));
  REQUIRE_FALSE(not_found.has_value());
  CHECK(not_found.error().code == Code::kNotFound);
  CHECK(not_found.error().message == "container not created");
  const auto strange = must(second.wait(soon()));
  REQUIRE_FALSE(strange.has_value());
  CHECK(strange.error().code == Code::kUnknown);
  CHECK(strange.error().message == "\xff\xfe not utf-8");
}

TEST_CASE_FIXTURE(Fixture, "ten calls answered backwards, one byte at a time") {
  std::vector<Answer> answers;
  for (int i = 0; i < 10; ++i) answers.push_back(call("m", std::to_string(i)));
  std::vector<std::pair<std::uint32_t, std::string>> requests;
  for (int i = 0; i < 10; ++i) {
    std::uint32_t stream_id = 0;
    const auto request = peer->read_request(&stream_id);
    CHECK(request.timeout_nano() == 0);
    requests.emplace_back(stream_id, request.payload());
  }
  for (auto it = requests.rbegin(); it != requests.rend(); ++it) {
    peer->send_slowly(ttrpc::encode_frame(ttrpc::FrameType::kResponse, it->first,
                                          ttrpc_test::response_bytes("answer to " + it->second)));
  }
  for (int i = 0; i < 10; ++i) {
    CHECK(must(must(answers[static_cast<std::size_t>(i)].wait(soon()))) == "answer to " + std::to_string(i));
  }
}

TEST_CASE_FIXTURE(Fixture, "ids are odd and increase on the wire, whoever calls") {
  constexpr int kThreads = 8, kCallsEach = 50;
  std::vector<std::thread> threads;
  std::atomic<int> right{0};
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kCallsEach; ++i) {
        const std::string payload = base::str(t, ":", i);
        const auto answer = client->call(soon(), "svc", "echo", payload);
        if (answer && *answer == payload) ++right;
      }
    });
  }
  std::uint32_t last = 0;
  for (int i = 0; i < kThreads * kCallsEach; ++i) {
    std::uint32_t stream_id = 0;
    const auto request = peer->read_request(&stream_id);
    CHECK(stream_id % 2 == 1);
    CHECK(stream_id > last);
    last = stream_id;
    peer->respond(stream_id, request.payload());
  }
  for (auto& thread : threads) thread.join();
  CHECK(right == kThreads * kCallsEach);
}

TEST_CASE_FIXTURE(Fixture, "a late answer is dropped in silence") {
  const auto given_up = client->call(Context::background().with_timeout(20ms), "svc", "slow", "");
  REQUIRE_FALSE(given_up.has_value());
  CHECK(given_up.error().code == Code::kDeadlineExceeded);
  CHECK(given_up.error().message.find("slow") != std::string::npos);
  std::uint32_t stream_id = 0;
  const auto request = peer->read_request(&stream_id);
  CHECK(request.timeout_nano() <= std::chrono::nanoseconds(20ms).count());
  peer->respond(stream_id, "late");
  const Answer next = call("next");
  peer->read_request(&stream_id);
  peer->respond(stream_id, "in time");
  CHECK(must(must(next.wait(soon()))) == "in time");
}

TEST_CASE_FIXTURE(Fixture, "a caller is cancelled by its token, and not at all if it was before") {
  std::stop_source stop;
  std::thread canceller([&] {
    peer->read_request();
    stop.request_stop();
  });
  const auto cancelled = client->call(soon().with_stop(stop.get_token()), "svc", "m", "");
  canceller.join();
  CHECK(cancelled.error().code == Code::kCancelled);
  CHECK(client->call(soon().with_stop(stop.get_token()), "svc", "m", "").error().code == Code::kCancelled);
  const Answer next = call("next");  // the second of the two was never sent
  std::uint32_t stream_id = 0;
  peer->read_request(&stream_id);
  CHECK(stream_id == 3);
}

TEST_CASE_FIXTURE(Fixture, "the peer dies: every pending call fails, listeners are told once") {
  std::atomic<int> told{0};
  client->on_close([&](const base::Error& error) {
    CHECK(error.code == Code::kUnavailable);
    ++told;
  });
  const Answer first = call("a"), second = call("b");
  peer->read_request();
  SUBCASE("between frames") {}
  SUBCASE("in the middle of a frame") {
    peer->send(header(100, 1, 2) + "half");
  }
  SUBCASE("in the middle of a header") {
    peer->send(std::string(3, '\0'));
  }
  SUBCASE("after announcing a huge frame") {
    peer->send(header(ttrpc::kFrameSkippedBytesMax, 1, 2) + "x");
  }
  SUBCASE("after talking HTTP, where we close") {
    peer->send("HTTP/1.1 400 Bad Request\r\n\r\n");
  }
  peer->close();
  CHECK(must(first.wait(soon())).error().code == Code::kUnavailable);
  CHECK(must(second.wait(soon())).error().code == Code::kUnavailable);
  CHECK(client->call(soon(), "svc", "m", "").error().code == Code::kUnavailable);
  CHECK(eventually([&] { return told == 1; }));
  base::OneShot<bool> told_late;
  client->on_close([told_late](const base::Error&) { told_late.set(true); });
  CHECK(must(told_late.wait(soon())));
  CHECK(told == 1);
}

TEST_CASE_FIXTURE(Fixture, "an answer that cannot be used costs its own call only") {
  const Answer oversized = asked("a"), garbage = asked("b"), good = asked("c");
  const auto length = static_cast<std::uint32_t>(ttrpc::kFrameDataBytesMax + 1);
  peer->send(header(length, 1, 2) + std::string(length, 'x'));
  peer->send(header(3, 3, 2) + "\xff\xff\xff");
  peer->respond(5, "fine");
  CHECK(must(oversized.wait(soon())).error().code == Code::kResourceExhausted);
  CHECK(must(garbage.wait(soon())).error().code == Code::kDataLoss);
  CHECK(must(must(good.wait(soon()))) == "fine");
}

TEST_CASE_FIXTURE(Fixture, "frames that make no sense to a client are ignored") {
  const Answer answer = asked("a");
  peer->send(header(0, 1, 0) + header(2, 1, 9) + "xx");  // unknown types
  peer->send(header(1, 1, 3) + "d");                     // data, for a call that is none
  peer->request(1, "svc", "m", "");                      // a request, for a client
  peer->respond(2, "even");
  peer->respond(999, "nobody asked");
  peer->respond(1, "yes");
  CHECK(must(must(answer.wait(soon()))) == "yes");
  peer->respond(1, "twice");
  const Answer next = asked("b");
  peer->respond(3, "still here");
  CHECK(must(must(next.wait(soon()))) == "still here");
}

TEST_CASE_FIXTURE(Fixture, "a request over the limit is refused here, and nothing is sent") {
  const std::string big(ttrpc::kFrameDataBytesMax, 'x');  // with the envelope it is over
  CHECK(client->call(soon(), "svc", "m", big).error().code == Code::kResourceExhausted);
  CHECK(must(call("m", big).wait(soon())).error().code == Code::kResourceExhausted);
  const Answer next = call("small");
  CHECK(peer->read_request().method() == "small");
}

TEST_CASE_FIXTURE(Fixture, "calls in flight are bounded") {
  std::vector<Answer> answers;
  for (std::size_t i = 0; i < ttrpc::kCallsInFlightMax; ++i) answers.push_back(asked("m"));
  CHECK(must(call("one too many").wait(soon())).error().code == Code::kResourceExhausted);
  peer->respond(1, "");
  must(must(answers[0].wait(soon())));
  const Answer room = asked("m");
  peer->respond(static_cast<std::uint32_t>(2 * ttrpc::kCallsInFlightMax + 1), "room again");
  CHECK(must(must(room.wait(soon()))) == "room again");
}

TEST_CASE_FIXTURE(Fixture, "callbacks run on the loop and may call again") {
  Answer second;
  client->call_async("svc", "first", "", [&](const base::Result<std::string>&) {
    CHECK(loop.on_loop_thread());
    client->call_async("svc", "second", "", [second](base::Result<std::string> r) { second.set(std::move(r)); });
  });
  std::uint32_t stream_id = 0;
  peer->read_request();
  peer->respond(1, "");
  peer->read_request(&stream_id);
  CHECK(stream_id == 3);
  peer->respond(3, "done");
  CHECK(must(must(second.wait(soon()))) == "done");
}

TEST_CASE_FIXTURE(Fixture, "a client that goes away ends its calls and its connection, and tells no listener") {
  std::atomic<bool> told{false};
  client->on_close([&](const base::Error&) { told = true; });
  const Answer answer = call("m");
  peer->read_request();
  client.reset();
  CHECK(must(answer.wait(soon())).error().code == Code::kUnavailable);
  CHECK_FALSE(peer->read_frame().has_value());
  loop.run([] {});
  CHECK_FALSE(told);
}

TEST_CASE("connecting to nobody") {
  base::Loop loop;
  const tests::TempDir dir;
  CHECK(Client::connect(loop, dir / "none").error().code == Code::kNotFound);
  { const base::Fd dead = must(base::listen_unix(dir / "dead", 1)); }
  CHECK(Client::connect(loop, dir / "dead").error().code == Code::kUnavailable);
}
