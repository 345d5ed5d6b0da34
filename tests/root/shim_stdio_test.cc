// Needs root. The ways of output and events through a real shim.
#include <signal.h>
#include <sys/syscall.h>

#include "shim/events.h"
#include "shim/shim.h"
#include "tests/root/shim_fixture.h"

using namespace shim_test;
using base::Code;
using shim::Shim;
using namespace std::chrono_literals;

namespace {

struct Life : Container {
  base::Loop loop;
  std::shared_ptr<Shim> shim;

  void launch(const std::vector<std::string>& args) {
    make_rootfs();
    write_config(args);
    shim = must(Shim::launch(soon(), loop, options, names));
  }
  /// From start to its end.
  std::uint32_t run() {
    Exited exited;
    shim->wait("", exited.callback());
    must(shim->start(soon()));
    return must(exited.wait()).exit_status;
  }
  void finish() {
    must(shim->remove(soon(), ""));
    must(shim->shutdown(soon()));
  }
};

}  // namespace

TEST_CASE_FIXTURE(Life, "held FIFOs: the shim takes our descriptors' names; swapped paths lead nowhere") {
  launch({"sh", "-c", "echo out; echo err >&2"});
  Fifo out(state_dir + "/out"), err(state_dir + "/err");
  auto held = must(shim::open_stdio({"", out.path(), err.path(), false}));
  const std::string canary = state_dir + "/canary";
  must(base::write_file_atomic(canary, "untouched", 0600, base::Durable::kNo));
  for (const Fifo* fifo : {&out, &err}) {
    REQUIRE(::unlink(fifo->path().c_str()) == 0);
    std::filesystem::create_symlink(canary, fifo->path());
  }
  must(shim->create(soon(), held.paths));
  held.held.clear();
  CHECK(run() == 0);
  CHECK(out.read_to_end() == "out\n");
  CHECK(err.read_to_end() == "err\n");
  CHECK(must(base::read_file(canary, 100)) == "untouched");
  finish();
}

TEST_CASE_FIXTURE(Life, "held FIFOs: Create does not wait for a reader, and nothing is lost") {
  launch({"sh", "-c", "echo early"});
  Fifo out(state_dir + "/out", false);  // no reader yet
  auto held = must(shim::open_stdio({"", out.path(), "", false}));
  const auto start = base::Clock::now();
  must(shim->create(soon(), held.paths));
  CHECK(base::Clock::now() - start < 15s);  // 30 s is what the shim waits by itself
  held.held.clear();
  out.open_reader();
  CHECK(run() == 0);
  CHECK(out.read_to_end() == "early\n");
  finish();
}

TEST_CASE_FIXTURE(Life, "held FIFOs: an exec") {
  launch({"sleep", "1000"});
  must(shim->create(soon(), {}));
  must(shim->start(soon()));
  Fifo in(state_dir + "/in", false), out(state_dir + "/out");
  auto held = must(shim::open_stdio({in.path(), out.path(), "", false}));
  must(shim->exec(soon(), "e1", base::dump_json(process({"cat"})), held.paths));
  Exited exited;
  shim->wait("e1", exited.callback());
  must(shim->start_exec(soon(), "e1"));
  held.held.clear();
  base::Fd writer = in.open_writer();
  must(base::write_all(soon(), writer.get(), "through"));
  must(shim->close_stdin(soon(), "e1"));
  writer.reset();
  CHECK(must(exited.wait()).exit_status == 0);
  CHECK(out.read_to_end() == "through");
  must(shim->remove(soon(), "e1"));
}

TEST_CASE_FIXTURE(Life, "a burst larger than all buffers arrives complete") {
  launch({"sh", "-c", "head -c 4000000 /dev/zero; echo end"});
  Fifo out(state_dir + "/out");
  must(shim->create(soon(), {"", out.path(), "", false}));
  Exited exited;
  shim->wait("", exited.callback());
  must(shim->start(soon()));
  const std::string text = out.read_to_end();
  CHECK(text.size() == 4000004);
  CHECK(text.ends_with("end\n"));
  CHECK(must(exited.wait()).exit_status == 0);
  finish();
}

TEST_CASE_FIXTURE(Life, "events reach our server, an OOM kill once") {
  base::Guarded<std::vector<shim::Event>> seen;
  const auto server = must(shim::EventServer::listen(loop, state_dir + "/events.sock",
                                                     [&](const shim::Event& event) { seen.lock()->push_back(event); }));
  options.events_socket = state_dir + "/events.sock";
  const auto count = [&](const std::string& topic) {
    const auto events = *seen.lock();
    return std::count_if(events.begin(), events.end(), [&](const shim::Event& event) {
      return event.topic == topic && event.container_id == names.container_id;
    });
  };
  make_rootfs();
  base::Json json = config({"sh", "-c", "x=0123456789; while :; do x=$x$x; done"});
  json["linux"]["resources"]["memory"] = {{"limit", 16 << 20}, {"swap", 16 << 20}};
  must(shim::write_bundle(names, base::dump_json(json)));
  shim = must(Shim::launch(soon(), loop, options, names));
  must(shim->create(soon(), {}));
  CHECK(run() == 137);
  CHECK(eventually([&] { return count(shim::kTopicExit) == 1; }));
  CHECK(count("/tasks/create") == 1);
  CHECK(count("/tasks/start") == 1);
  CHECK(eventually([&] { return count(shim::kTopicOom) >= 1; }));
  CHECK(count(shim::kTopicOom) <= 5);
  finish();
}
