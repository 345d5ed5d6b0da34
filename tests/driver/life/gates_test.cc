#include "driver/life/gates.h"

#include <doctest/doctest.h>

#include "driver/spec/security.h"

using driver::NetworkPlan;
using driver::PluginOptions;
using driver::TaskSpec;

namespace {

PluginOptions hardened() {
  PluginOptions options;
  options.profile = "hardened";
  return options;
}

/// The refusal of `spec`, "" if it is allowed.
std::string refusal(const TaskSpec& spec, const PluginOptions& options, const NetworkPlan& network = {}) {
  const auto checked = driver::check_policy(spec, network, driver::policy_of(options));
  if (!checked) CHECK(checked.error().code == base::Code::kPermissionDenied);
  return checked ? "" : checked.error().message;
}

/// A job that only `change` sets apart from the plainest one.
template <typename Change>
TaskSpec job(Change change) {
  TaskSpec spec;
  spec.options.image = "redis:7";
  change(spec.options);
  return spec;
}

struct Gate {
  const char* gate;     ///< as the refusal names it
  TaskSpec spec;        ///< what it forbids
  NetworkPlan network;  ///< of the task
  void (*open)(PluginOptions&);
  void (*close)(PluginOptions&);
};

std::vector<Gate> gates() {
  using Names = std::vector<std::string>;
  return {
      {"allow_privileged",
       job([](auto& o) { o.privileged = true; }),
       {},
       [](PluginOptions& o) { o.allow_privileged = true; },
       [](PluginOptions& o) { o.allow_privileged = false; }},
      {"allowed_modes",
       job([](auto& o) { o.host_pid = true; }),
       {},
       [](PluginOptions& o) { o.allowed_modes = Names{"pid"}; },
       [](PluginOptions& o) { o.allowed_modes = Names{"ipc"}; }},
      {"allowed_modes",
       job([](auto& o) { o.host_ipc = true; }),
       {},
       [](PluginOptions& o) { o.allowed_modes = Names{"ipc"}; },
       [](PluginOptions& o) { o.allowed_modes = Names{"pid"}; }},
      {"allowed_modes",
       job([](auto& o) { o.host_uts = true; }),
       {},
       [](PluginOptions& o) { o.allowed_modes = Names{"uts"}; },
       [](PluginOptions& o) { o.allowed_modes = Names{"none"}; }},
      {"allowed_modes",
       job([](auto& o) { o.host_cgroup = true; }),
       {},
       [](PluginOptions& o) { o.allowed_modes = Names{"cgroup"}; },
       [](PluginOptions& o) { o.allowed_modes = Names{"none"}; }},
      {"allowed_modes",
       job([](auto& o) { o.host_network = true; }),
       {NetworkPlan::Kind::kHost, ""},
       [](PluginOptions& o) { o.allowed_modes = Names{"network"}; },
       [](PluginOptions& o) { o.allowed_modes = Names{"none"}; }},
      {"require_seccomp",
       job([](auto& o) { o.seccomp = false; }),
       {},
       [](PluginOptions& o) { o.require_seccomp = false; },
       [](PluginOptions& o) { o.require_seccomp = true; }},
      {"require_seccomp",
       job([](auto& o) { o.seccomp_profile = "/p.json"; }),
       {},
       [](PluginOptions& o) { o.require_seccomp = false; },
       [](PluginOptions& o) { o.require_seccomp = true; }},
      {"require_no_new_privileges",
       job([](auto& o) { o.no_new_privileges = false; }),
       {},
       [](PluginOptions& o) { o.require_no_new_privileges = false; },
       [](PluginOptions& o) { o.require_no_new_privileges = true; }},
      {"volumes.enabled",
       job([](auto& o) {
         o.mounts = {{"bind", "/mnt", "/etc", {"rbind"}}};
       }),
       {},
       [](PluginOptions& o) { o.volumes.enabled = true; },
       [](PluginOptions& o) { o.volumes.enabled = false; }},
      {"volumes.enabled",
       job([](auto& o) { o.image = "docker-archive:/srv/app.tar"; }),
       {},
       [](PluginOptions& o) { o.volumes.enabled = true; },
       [](PluginOptions& o) { o.volumes.enabled = false; }},
      {"allow_devices",
       job([](auto& o) { o.devices = {{"/dev/fuse"}}; }),
       {},
       [](PluginOptions& o) { o.allow_devices = Names{"/dev/fuse"}; },
       [](PluginOptions& o) { o.allow_devices = Names{"/dev/null"}; }},
  };
}

}  // namespace

TEST_CASE("every gate: open by default, closed by the profile, and what is set wins") {
  for (const Gate& gate : gates()) {
    CAPTURE(gate.gate);
    CHECK(refusal(gate.spec, {}, gate.network).empty());
    CHECK(refusal(gate.spec, hardened(), gate.network).find(gate.gate) != std::string::npos);

    PluginOptions opened = hardened();
    gate.open(opened);
    CHECK(refusal(gate.spec, opened, gate.network).empty());
    PluginOptions closed;
    gate.close(closed);
    CHECK(refusal(gate.spec, closed, gate.network).find(gate.gate) != std::string::npos);
  }
}

TEST_CASE("a plain job passes a hardened node") {
  const TaskSpec plain = job([](auto& o) {
    o.mounts = {{"bind", "/etc/app", "local/app", {"rbind"}}, {"tmpfs", "/scratch", "", {}}};
    o.no_new_privileges = true;
  });
  CHECK(refusal(plain, hardened()).empty());
  CHECK(refusal(plain, hardened(), {NetworkPlan::Kind::kJoin, "/netns"}).empty());
}

TEST_CASE("the Go driver's sentence") {
  PluginOptions options;
  options.allow_privileged = false;
  CHECK(refusal(job([](auto& o) { o.privileged = true; }), options) ==
        "Running privileged jobs are not allowed. Set allow_privileged to true in plugin config to allow running "
        "privileged jobs.");
}

TEST_CASE("without privileged tasks the host's processes are out of reach, its network is not") {
  PluginOptions options;
  options.allow_privileged = false;
  CHECK(driver::policy_of(options).modes == std::set<std::string>{"network"});
  options.allowed_modes = {"pid"};
  CHECK(driver::policy_of(options).modes == std::set<std::string>{"pid"});
}

TEST_CASE("capabilities: every one, the default ones, or those that are listed") {
  CHECK_FALSE(driver::policy_of({}).caps);
  CHECK(driver::policy_of(hardened()).caps == driver::default_capabilities());
  PluginOptions options = hardened();
  options.allow_caps = {"net_admin", "CAP_CHOWN"};
  CHECK(driver::policy_of(options).caps == std::set<std::string>{"CAP_NET_ADMIN", "CAP_CHOWN"});
  options.allow_caps = {"all"};
  CHECK_FALSE(driver::policy_of(options).caps);
}

TEST_CASE("allowed devices are files, or folders with them, and no beginnings of names") {
  PluginOptions options;
  options.allow_devices = {"/dev/dri", "/dev/fuse"};
  const auto allows = [&](const char* path) {
    return refusal(job([&](auto& o) { o.devices = {{path}}; }), options).empty();
  };
  CHECK(allows("/dev/dri"));
  CHECK(allows("/dev/dri/card0"));
  CHECK(allows("/dev/fuse"));
  CHECK_FALSE(allows("/dev/fuse2"));
  CHECK_FALSE(allows("/dev/drive"));
  CHECK_FALSE(allows("/dev/dri/../sda"));
  CHECK_FALSE(allows("/dev"));
  options.allow_devices = {"none"};
  CHECK_FALSE(allows("/dev/fuse"));
}

TEST_CASE("runtimes: by name, with words for those that are not known or not allowed") {
  PluginOptions options;
  options.runtime_binary = "/opt/bin/youki";
  options.runtimes = {{"crun", "/usr/bin/crun"}};
  const auto program = [&](const char* name) {
    const auto chosen = driver::choose_runtime(name, options);
    return chosen ? *chosen : "error: " + chosen.error().message;
  };
  CHECK(program("") == "/opt/bin/youki");
  CHECK(program("youki") == "/opt/bin/youki");
  CHECK(program("io.containerd.runc.v2") == "/opt/bin/youki");
  CHECK(program("runc") == "runc");
  CHECK(program("crun") == "/usr/bin/crun");
  CHECK(program("kata").find("kata") != std::string::npos);
  CHECK(program("kata").find("crun, runc, youki") != std::string::npos);
  options.allow_runtimes = {"crun"};
  CHECK(program("crun") == "/usr/bin/crun");
  CHECK(program("") == "/opt/bin/youki");
  CHECK(program("runc").find("allow_runtimes") != std::string::npos);
  options.runtimes["runc"] = "/opt/runc";
  options.allow_runtimes.reset();
  CHECK(program("runc") == "/opt/runc");
}
