// Needs root. The real containerd-shim-runc-v2 and runc, driven as the driver does.
#include "shim/shim.h"

#include <signal.h>
#include <sys/syscall.h>

#include "tests/root/shim_fixture.h"

using namespace shim_test;
using base::Code;
using shim::ContainerStatus;
using shim::Shim;
using shim::Stdio;

namespace {

using Millis = std::chrono::duration<double, std::milli>;

double millis_since(base::Deadline start) {
  return Millis(base::Clock::now() - start).count();
}

std::shared_ptr<Shim> launch(base::Loop& loop, const Container& container) {
  return must(Shim::launch(soon(), loop, container.options, container.names));
}

/// SIGSTOP reaches one thread after the other; until the last one has it, a shim still answers.
bool all_threads_stopped(pid_t pid) {
  for (const auto& thread : std::filesystem::directory_iterator(base::str("/proc/", pid, "/task"))) {
    const std::string status = must(base::read_file(thread.path() / "status", 64u << 10));
    if (status.find("\nState:\tT") == std::string::npos) return false;
  }
  return true;
}

int pidfd_of(pid_t pid) {
  return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
}

}  // namespace

TEST_CASE("a container's whole life") {
  base::Loop loop;
  Container container;
  container.make_rootfs();
  container.write_config({"sh", "-c", "echo out; echo err >&2; exit 7"});
  Fifo out(container.state_dir + "/out"), err(container.state_dir + "/err");

  const auto shim = launch(loop, container);
  const pid_t pid = must(shim->create(soon(), {"", out.path(), err.path(), false}));
  CHECK(pid > 0);
  const auto created = must(shim->state(soon()));
  CHECK(created.status == ContainerStatus::kCreated);
  CHECK(created.pid == pid);
  Exited exited;
  shim->wait("", exited.callback());
  must(shim->start(soon()));
  const auto exit = must(exited.wait());
  CHECK(exit.exit_status == 7);
  REQUIRE(exit.exited_at.has_value());
  CHECK(std::chrono::abs(std::chrono::system_clock::now() - *exit.exited_at) < std::chrono::seconds(20));
  CHECK(out.read_to_end() == "out\n");
  CHECK(err.read_to_end() == "err\n");
  const auto stopped = must(shim->state(soon()));
  CHECK(stopped.status == ContainerStatus::kStopped);
  CHECK(stopped.exit.exit_status == 7);
  CHECK(must(shim->remove(soon(), "")).exit_status == 7);
  CHECK_FALSE(must(shim->remove(soon(), "")).exited_at.has_value());  // again: nothing there, and that is fine
  CHECK(shim->state(soon()).error().code == Code::kNotFound);
  must(shim->shutdown(soon()));
  must(shim::remove_bundle(container.names));
  CHECK(container.leftovers() == "");
}

TEST_CASE("what the shim runs as") {
  base::Loop loop;
  Container container;
  container.make_rootfs();
  container.write_config({"true"});
  const base::Fd inheritable(::open("/dev/null", O_RDONLY));  // without O_CLOEXEC, as a library might leave one
  const auto shim = launch(loop, container);
  must(shim->create(soon(), {}));
  const auto proc = base::str("/proc/", shim->process().pid);

  // Lowering needs a capability; without it the shim keeps our own value.
  const std::string adj = must(base::read_file(proc + "/oom_score_adj", 64));
  CHECK((adj == "-999\n" || adj == must(base::read_file("/proc/self/oom_score_adj", 64))));
  bool a_thread_with_all_signals = false;  // others are kept by Go for itself
  for (const auto& thread : std::filesystem::directory_iterator(proc + "/task")) {
    const std::string status = must(base::read_file(thread.path() / "status", 64u << 10));
    if (status.find("SigBlk:\t0000000000000000") != std::string::npos) a_thread_with_all_signals = true;
  }
  CHECK(a_thread_with_all_signals);
  CHECK(::getsid(shim->process().pid) == shim->process().pid);
  CHECK(std::filesystem::read_symlink(proc + "/cwd") == container.names.bundle_dir);
  const std::string env = must(base::read_file(proc + "/environ", 64u << 10));
  CHECK(std::count(env.begin(), env.end(), '\0') == 4);
  for (const auto& entry : std::filesystem::directory_iterator(proc + "/fd")) {
    const std::string target = std::filesystem::read_symlink(entry.path());
    const bool own = target == "/dev/null" || target == container.names.bundle_dir + "/log" ||
                     target.starts_with("socket:") || target.starts_with("anon_inode:") || target.starts_with("pipe:");
    CHECK_MESSAGE(own, target);
  }
  const std::string cgroups = must(base::read_file(proc + "/cgroup", 64u << 10));
  CHECK(cgroups.find("/" + container.names.cgroup_name) != std::string::npos);
  const std::string ours = must(base::read_file("/proc/self/cgroup", 64u << 10));
  for (const auto& hierarchy : shim::cgroup_hierarchies()) {
    if (hierarchy.v2 || hierarchy.at_root) continue;
    const std::string controller = std::filesystem::path(hierarchy.root).filename();
    CHECK_MESSAGE(cgroups.find(controller + ":/\n") != std::string::npos, controller);
  }
  struct stat st {};
  REQUIRE(::stat(container.names.socket_path.c_str(), &st) == 0);
  CHECK((st.st_mode & 0777) == 0600);
  must(shim->remove(soon(), ""));
  must(shim->shutdown(soon()));
}

TEST_CASE("signals, by the shim and by pidfd") {
  base::Loop loop;
  Container container;
  container.make_rootfs();
  // pid 1 has no default actions: it must handle what it wants to be ended by.
  container.write_config({"sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done"});
  Fifo out(container.state_dir + "/out");
  const auto shim = launch(loop, container);
  const pid_t pid = must(shim->create(soon(), {"", out.path(), "", false}));
  Exited exited;
  shim->wait("", exited.callback());
  must(shim->start(soon()));

  SUBCASE("SIGTERM through the shim, once it can be handled") {
    const base::Fd reader = must(base::open_file(out.path(), O_RDONLY | O_NONBLOCK));
    must(base::wait_fd(soon(), reader.get(), base::Wait::kReadable));
    must(shim->kill(soon(), "", SIGTERM, false));
    CHECK(must(exited.wait()).exit_status == 3);
  }
  SUBCASE("SIGKILL by pidfd") {
    const base::Fd pidfd(pidfd_of(pid));
    must(base::send_signal(pidfd.get(), SIGKILL));
    CHECK(must(exited.wait()).exit_status == 137);
  }
  SUBCASE("SIGKILL to all") {
    must(shim->kill(soon(), "", SIGKILL, true));
    CHECK(must(exited.wait()).exit_status == 137);
  }
  const auto again = shim->kill(soon(), "", SIGTERM, false);
  REQUIRE_FALSE(again.has_value());
  CHECK(again.error().code == Code::kNotFound);
  CHECK(again.error().message.find("sending SIGTERM to container " + container.names.container_id) == 0);
  must(shim->remove(soon(), ""));
  must(shim->shutdown(soon()));
}

TEST_CASE("execs: output, exit code, stdin, failure, two at once") {
  base::Loop loop;
  Container container;
  container.make_rootfs();
  container.write_config({"sleep", "1000"});
  const auto shim = launch(loop, container);
  must(shim->create(soon(), {}));
  must(shim->start(soon()));

  SUBCASE("output and exit code") {
    Fifo out(container.state_dir + "/out"), err(container.state_dir + "/err");
    const auto json = base::dump_json(Container::process({"sh", "-c", "echo $$; echo e >&2; exit 5"}));
    must(shim->exec(soon(), "e1", json, {"", out.path(), err.path(), false}));
    Exited exited;
    shim->wait("e1", exited.callback());
    CHECK(must(shim->start_exec(soon(), "e1")) > 0);
    CHECK(must(exited.wait()).exit_status == 5);
    CHECK(out.read_to_end() != "");
    CHECK(err.read_to_end() == "e\n");
    CHECK(must(shim->remove(soon(), "e1")).exit_status == 5);
  }
  SUBCASE("stdin to its end") {
    Fifo in(container.state_dir + "/in", false), out(container.state_dir + "/out");
    must(shim->exec(soon(), "e2", base::dump_json(Container::process({"cat"})), {in.path(), out.path(), "", false}));
    Exited exited;
    shim->wait("e2", exited.callback());
    must(shim->start_exec(soon(), "e2"));
    must(base::write_all(soon(), in.open_writer().get(), "hello"));
    must(shim->close_stdin(soon(), "e2"));
    CHECK(out.read_to_end() == "hello");
    CHECK(must(exited.wait()).exit_status == 0);
    must(shim->remove(soon(), "e2"));
  }
  SUBCASE("no output wanted") {
    must(shim->exec(soon(), "e3", base::dump_json(Container::process({"sh", "-c", "echo x || exit 9"})), {}));
    Exited exited;
    shim->wait("e3", exited.callback());
    must(shim->start_exec(soon(), "e3"));
    CHECK(must(exited.wait()).exit_status == 0);
    must(shim->remove(soon(), "e3"));
  }
  SUBCASE("no such command") {
    must(shim->exec(soon(), "e4", base::dump_json(Container::process({"nonesuch"})), {}));
    const auto started = shim->start_exec(soon(), "e4");
    REQUIRE_FALSE(started.has_value());
    CHECK(started.error().message.find("nonesuch") != std::string::npos);
    must(shim->remove(soon(), "e4"));
  }
  SUBCASE("killed") {
    must(shim->exec(soon(), "e5", base::dump_json(Container::process({"sleep", "1000"})), {}));
    Exited exited;
    shim->wait("e5", exited.callback());
    must(shim->start_exec(soon(), "e5"));
    must(shim->kill(soon(), "e5", SIGKILL, false));
    CHECK(must(exited.wait()).exit_status == 137);
    must(shim->remove(soon(), "e5"));
  }
  SUBCASE("bad ids never reach the shim") {
    for (const std::string& id : {std::string(""), std::string("../x"), std::string("A"), std::string(65, 'a')}) {
      CHECK(shim->exec(soon(), id, "{}", {}).error().code == Code::kInvalidArgument);
    }
  }
  must(shim->kill(soon(), "", SIGKILL, false));
  must(eventually([&] { return must(shim->state(soon())).status == ContainerStatus::kStopped; })
           ? base::Status()
           : base::Error::unknown("runs"));
  must(shim->remove(soon(), ""));
  must(shim->shutdown(soon()));
}

TEST_CASE("a second connection adopts the shim") {
  base::Loop loop;
  Container container;
  container.make_rootfs();
  container.write_config({"sh", "-c", "read line; echo got $line; exit 4"});
  Fifo in(container.state_dir + "/in", false), out(container.state_dir + "/out");
  auto first = launch(loop, container);
  const base::ProcessId process = first->process();
  const pid_t pid = must(first->create(soon(), {in.path(), out.path(), "", false}));
  must(first->start(soon()));

  SUBCASE("the container still runs") {
    first.reset();
    base::Loop other_loop;
    const auto second = must(Shim::adopt(soon(), other_loop, container.options, container.names));
    CHECK(second->process().pid == process.pid);
    CHECK(second->process().start_ticks == process.start_ticks);
    const auto state = must(second->state(soon()));
    CHECK(state.status == ContainerStatus::kRunning);
    CHECK(state.pid == pid);
    Exited exited;
    second->wait("", exited.callback());
    const base::Fd writer = must(base::open_file(in.path(), O_RDWR | O_NONBLOCK));
    must(base::write_all(soon(), writer.get(), "it\n"));
    CHECK(must(exited.wait()).exit_status == 4);
    CHECK(out.read_to_end() == "got it\n");
    must(second->remove(soon(), ""));
    must(second->shutdown(soon()));
  }
  SUBCASE("the container ended meanwhile") {
    const base::Fd writer = must(base::open_file(in.path(), O_RDWR | O_NONBLOCK));
    Exited seen;
    first->wait("", seen.callback());
    must(base::write_all(soon(), writer.get(), "it\n"));
    must(seen.wait());
    first.reset();
    const auto second = must(Shim::adopt(soon(), loop, container.options, container.names));
    Exited exited;
    second->wait("", exited.callback());
    CHECK(must(exited.wait()).exit_status == 4);
    must(second->remove(soon(), ""));
    must(second->shutdown(soon()));
  }
  CHECK(Shim::adopt(soon(), loop, container.options, container.names).error().code == Code::kNotFound);
  // With its Shim object gone nobody in this process reaped it: delete_forced does.
  must(shim::delete_forced(soon(), container.options, container.names, process));
}

TEST_CASE("the shim is killed") {
  base::Loop loop;
  Container container;
  container.make_rootfs();
  container.write_config({"sleep", "1000"});
  const auto shim = launch(loop, container);
  base::OneShot<bool> closed;
  shim->on_closed([closed] { closed.set(true); });
  const pid_t pid = must(shim->create(soon(), {}));
  Exited exited;
  shim->wait("", exited.callback());
  must(shim->start(soon()));
  const base::ProcessId init = must(base::identify(pid));

  const base::Fd pidfd(pidfd_of(shim->process().pid));
  must(base::send_signal(pidfd.get(), SIGKILL));
  CHECK(must(closed.wait(soon())));
  CHECK(exited.wait().error().code == Code::kUnavailable);
  CHECK(shim->state(soon()).error().code == Code::kUnavailable);
  CHECK(base::open_pidfd(init).has_value());  // the container runs on, unsupervised
  CHECK(container.leftovers() != "");

  must(shim::delete_forced(soon(), container.options, container.names, shim->process()));
  CHECK(container.leftovers() == "");
  // A zombie, until whoever inherited it reaps it.
  if (const auto ended = base::open_pidfd(init)) must(base::wait_exited(soon(), ended->get()));
  must(shim::delete_forced(soon(), container.options, container.names, shim->process()));  // idempotent
}

TEST_CASE("forced delete, by name only, of a living shim and container") {
  base::Loop loop;
  Container container;
  container.make_rootfs();
  container.write_config({"sh", "-c", "sleep 1000 & sleep 1000"});
  const auto shim = launch(loop, container);
  must(shim->create(soon(), {}));
  must(shim->start(soon()));
  SUBCASE("with everything at hand") {}
  SUBCASE("the shim program has gone") {
    container.options.shim_binary = "/nonexistent/shim";
  }
  SUBCASE("shim and runtime programs have gone") {
    container.options.shim_binary = "/nonexistent/shim";
    container.options.runtime_binary = "/nonexistent/runc";
  }
  SUBCASE("its delete does nothing and says all is well") {
    container.options.shim_binary = "/bin/true";
    container.options.runtime_binary = "/bin/true";
  }
  must(shim::delete_forced(soon(), container.options, container.names, std::nullopt));
  CHECK(container.leftovers() == "");
}

TEST_CASE("forced delete between create and start, and of nothing") {
  base::Loop loop;
  Container container;
  must(shim::delete_forced(soon(), container.options, container.names, std::nullopt));
  container.make_rootfs();
  must(shim::delete_forced(soon(), container.options, container.names, std::nullopt));
  CHECK(container.leftovers() == "");
  container.make_rootfs();
  container.write_config({"sleep", "1000"});
  const auto shim = launch(loop, container);
  must(shim->create(soon(), {}));
  must(shim::delete_forced(soon(), container.options, container.names, std::nullopt));
  CHECK(container.leftovers() == "");
}

TEST_CASE("a mounted rootfs keeps the bundle") {
  base::Loop loop;
  Container container;
  container.make_rootfs();
  const std::string source = container.state_dir + "/image";
  std::filesystem::rename(container.rootfs(), source);
  must(base::make_dirs(container.rootfs(), 0711));
  container.write_config({"true"});
  REQUIRE(::mount(source.c_str(), container.rootfs().c_str(), nullptr, MS_BIND, nullptr) == 0);
  const auto shim = launch(loop, container);
  must(shim->create(soon(), {}));
  Exited exited;
  shim->wait("", exited.callback());
  must(shim->start(soon()));
  CHECK(must(exited.wait()).exit_status == 0);
  must(shim->remove(soon(), ""));
  must(shim->shutdown(soon()));
  CHECK(*base::is_mount_point(container.rootfs()));  // the shim unmounts only what it mounted
  CHECK(shim::remove_bundle(container.names).error().code == Code::kFailedPrecondition);
  must(shim::delete_forced(soon(), container.options, container.names, std::nullopt));
  CHECK(std::filesystem::exists(container.names.bundle_dir));
  REQUIRE(::umount2(container.rootfs().c_str(), 0) == 0);
  must(shim::remove_bundle(container.names));
  CHECK(std::filesystem::exists(source + "/bin/busybox"));
}

TEST_CASE("a shim that is stopped costs a deadline, not a thread") {
  base::Loop loop;
  Container container;
  container.make_rootfs();
  container.write_config({"sleep", "1000"});
  const auto shim = launch(loop, container);
  must(shim->create(soon(), {}));
  must(shim->start(soon()));
  const base::Fd pidfd(pidfd_of(shim->process().pid));
  must(base::send_signal(pidfd.get(), SIGSTOP));
  REQUIRE(eventually([&] { return all_threads_stopped(shim->process().pid); }));
  const auto start = base::Clock::now();
  const auto state = shim->state(base::Context::background().with_timeout(std::chrono::milliseconds(100)));
  REQUIRE_FALSE(state.has_value());
  CHECK(state.error().code == Code::kDeadlineExceeded);
  CHECK(millis_since(start) < 5000);
  const auto adopted = Shim::adopt(base::Context::background().with_timeout(std::chrono::milliseconds(100)), loop,
                                   container.options, container.names);
  REQUIRE_FALSE(adopted.has_value());
  CHECK(adopted.error().code == Code::kDeadlineExceeded);

  SUBCASE("it goes on: late answers are dropped, new ones come") {
    must(base::send_signal(pidfd.get(), SIGCONT));
    CHECK(must(shim->state(soon())).status == ContainerStatus::kRunning);
  }
  SUBCASE("it does not: shutdown kills it after 3 s") {
    must(shim->shutdown(soon()));
    must(base::wait_exited(soon(), pidfd.get()));
  }
  must(shim::delete_forced(soon(), container.options, container.names, shim->process()));
  CHECK(container.leftovers() == "");
}

TEST_CASE("create fails") {
  base::Loop loop;
  Container container;
  container.make_rootfs();
  std::string wanted;
  SUBCASE("no such command") {
    container.write_config({"nonesuch"});
    wanted = "nonesuch";
  }
  SUBCASE("runtime missing") {
    container.write_config({"true"});
    container.options.runtime_binary = "/nonexistent/runc";
    wanted = "/nonexistent/runc";
  }
  SUBCASE("config.json missing") {
    wanted = "config.json";
  }
  const auto shim = launch(loop, container);
  const auto created = shim->create(soon(), {});
  REQUIRE_FALSE(created.has_value());
  CHECK_MESSAGE(created.error().message.find(wanted) != std::string::npos, created.error().message);
  must(shim::delete_forced(soon(), container.options, container.names, shim->process()));
  CHECK(container.leftovers() == "");
}

TEST_CASE("create is given up half-way") {
  base::Loop loop;
  Container container;
  container.make_rootfs();
  container.write_config({"sleep", "1000"});
  const auto shim = launch(loop, container);
  const auto created = shim->create(base::Context::background().with_timeout(std::chrono::milliseconds(12)), {});
  REQUIRE_FALSE(created.has_value());
  must(shim::delete_forced(soon(), container.options, container.names, shim->process()));
  CHECK(container.leftovers() == "");
}

TEST_CASE("what is no shim") {
  base::Loop loop;
  Container container;
  must(shim::prepare_bundle(container.names));
  Code wanted = Code::kFailedPrecondition;
  container.options.launch_timeout = std::chrono::milliseconds(300);
  SUBCASE("no such program") {
    container.options.shim_binary = "/nonexistent/shim";
    wanted = Code::kNotFound;
  }
  SUBCASE("not executable") {
    container.options.shim_binary = container.names.bundle_dir + "/log";
    wanted = Code::kPermissionDenied;
  }
  SUBCASE("ends at once") {
    container.options.shim_binary = "/bin/false";
  }
  SUBCASE("a shim of the wrong kind") {
    container.options.shim_binary = "/usr/bin/containerd-shim";
  }
  SUBCASE("log missing, which the shim does not survive") {
    REQUIRE(::unlink((container.names.bundle_dir + "/log").c_str()) == 0);
  }
  const auto launched = Shim::launch(soon(), loop, container.options, container.names);
  REQUIRE_FALSE(launched.has_value());
  CHECK_MESSAGE(launched.error().code == wanted, launched.error().message);
  CHECK(launched.error().message.find(container.options.shim_binary) != std::string::npos);
}

TEST_CASE("names that break the rules start nothing") {
  base::Loop loop;
  Container container;
  auto names = container.names;
  SUBCASE("id") {
    names.container_id = "../x";
  }
  SUBCASE("id too long") {
    names.container_id = std::string(77, 'a');
  }
  SUBCASE("bundle") {
    names.bundle_dir = container.state_dir;
  }
  SUBCASE("socket too long") {
    names.socket_path = "/" + std::string(106, 's');
  }
  CHECK(Shim::spawn(loop, container.options, names).error().code == Code::kInvalidArgument);
}

TEST_CASE("versions") {
  CHECK(must(shim::probe_version(soon(), "/usr/bin/containerd-shim-runc-v2")).find('.') != std::string::npos);
  CHECK(shim::probe_version(soon(), "/nonexistent/shim").error().code == Code::kNotFound);
  CHECK(shim::probe_version(soon(), "/bin/true").error().code == Code::kFailedPrecondition);
}
