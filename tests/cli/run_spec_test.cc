#include "cli/run_spec.h"

#include <doctest/doctest.h>
#include <stdlib.h>

#include <filesystem>

using Strings = std::vector<std::string>;

TEST_CASE("what was not said is the driver's default") {
  const auto spec = cli::make_task_spec({}, {"localhost:5000/team/redis:7@sha256:ab"});
  REQUIRE(spec);
  CHECK(spec->name == "redis");
  CHECK(spec->id.text.starts_with("cli/redis/"));
  CHECK(spec->id.text.size() == std::string("cli/redis/").size() + 8);
  CHECK(spec->options.image == "localhost:5000/team/redis:7@sha256:ab");
  CHECK(spec->options.command.empty());
  CHECK_FALSE(spec->options.entrypoint);
  CHECK_FALSE(spec->options.host_network);
  CHECK(spec->options.seccomp);
  CHECK(spec->options.image_pull_policy == driver::PullPolicy::kMissing);
  CHECK(spec->from_command_line);
  CHECK_FALSE(spec->remove_on_exit);
  CHECK(spec->id.text != cli::make_task_spec({}, {"redis"})->id.text);
}

TEST_CASE("everything that can be said") {
  ::setenv("RUN_SPEC_TEST", "ours", 1);
  cli::RunFlags flags;
  flags.remove = true;
  flags.name = "mine";
  flags.env = {"A=1", "B=x=y", "RUN_SPEC_TEST", "RUN_SPEC_TEST_NONE", "A=2"};
  flags.volumes = {"/src:/dst:ro,nosuid", "./here:/there"};
  flags.network.net = "host";
  flags.hostname = "web";
  flags.user = "1000:1000";
  flags.entrypoint = {"/bin/sh"};
  flags.cwd = "/srv";
  flags.cap_add = {"NET_RAW"};
  flags.cap_drop = {"ALL"};
  flags.readonly = true;
  flags.privileged = true;
  const auto spec = cli::make_task_spec(flags, {"busybox", "-c", "echo", "--rm"});
  ::unsetenv("RUN_SPEC_TEST");
  REQUIRE(spec);
  CHECK(spec->name == "mine");
  CHECK(spec->remove_on_exit);
  CHECK(spec->env == std::map<std::string, std::string>{{"A", "2"}, {"B", "x=y"}, {"RUN_SPEC_TEST", "ours"}});
  CHECK(spec->user == "1000:1000");
  CHECK(spec->options.entrypoint == Strings{"/bin/sh"});
  CHECK(spec->options.command == "-c");
  CHECK(spec->options.args == Strings{"echo", "--rm"});
  CHECK(spec->options.cwd == "/srv");
  CHECK(spec->options.hostname == "web");
  CHECK(spec->options.host_network);
  CHECK(spec->options.cap_drop == Strings{"ALL"});
  CHECK(spec->options.readonly_rootfs);
  CHECK(spec->options.privileged);
  REQUIRE(spec->options.mounts.size() == 2);
  CHECK(spec->options.mounts[0].options == Strings{"rbind", "ro", "nosuid"});
  CHECK(spec->options.mounts[1].source == (std::filesystem::current_path() / "here").string());
  CHECK(spec->options.mounts[1].options == Strings{"rbind", "rw"});
}

TEST_CASE("what no option of a job may be is refused here too") {
  CHECK_FALSE(cli::make_task_spec({}, {}));
  CHECK_FALSE(cli::make_task_spec({}, {""}));
  CHECK_FALSE(cli::make_task_spec({}, {"a\nb"}));
  cli::RunFlags flags;
  flags.cwd = "relative";
  const auto spec = cli::make_task_spec(flags, {"busybox"});
  REQUIRE_FALSE(spec);
  CHECK(spec.error().message.find("relative") != std::string::npos);
}

TEST_CASE("whose processes are shared") {
  cli::RunFlags flags;
  flags.pid = "host";
  CHECK(cli::make_task_spec(flags, {"busybox"})->options.host_pid);
  flags.pid = "container:web";  // which one that is, is not known before the start
  const auto joins = cli::make_task_spec(flags, {"busybox"});
  REQUIRE(joins);
  CHECK_FALSE(joins->options.host_pid);
  flags.pid = "pod";
  CHECK(cli::make_task_spec(flags, {"busybox"}).error().message == "--pid pod must be host, container:ID or private");
  flags.pid.clear();
  flags.ipc = "container:web";
  CHECK(cli::make_task_spec(flags, {"busybox"}).error().message == "--ipc container:web must be host or private");
}
