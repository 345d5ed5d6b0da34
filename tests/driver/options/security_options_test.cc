// The rows of src/driver/options/security_options.cc and limit_options.cc, decoded_security.
#include "driver/options/config.h"

#include <doctest/doctest.h>

#include "base/json.h"

using base::Json;
using driver::TaskOptions;

namespace {

TaskOptions decoded_security(Json object) {
  object["image"] = "busybox";
  const auto options = driver::decode_task_options(object);
  REQUIRE_MESSAGE(options.has_value(), options.error().message);
  return *options;
}

std::string task_error(Json object) {
  object["image"] = "busybox";
  const auto options = driver::decode_task_options(object);
  if (options) return "";
  CHECK(options.error().code == base::Code::kInvalidArgument);
  return options.error().message;
}

std::string plugin_error(const Json& object) {
  const auto options = driver::decode_plugin_options(object);
  if (options) return "";
  CHECK(options.error().code == base::Code::kInvalidArgument);
  return options.error().message;
}

bool has(const std::string& text, const std::string& word) {
  CAPTURE(text);
  return text.find(word) != std::string::npos;
}

}  // namespace

TEST_CASE("security_opt says the same as the options of their own") {
  CHECK_FALSE(decoded_security({{"security_opt", {"seccomp=unconfined"}}}).seccomp);
  CHECK_FALSE(decoded_security({{"security_opt", {"seccomp:unconfined"}}}).seccomp);
  CHECK(decoded_security({{"security_opt", {"seccomp=builtin"}}}).seccomp);
  CHECK(decoded_security({{"security_opt", {"seccomp=/p.json"}}}).seccomp_profile == "/p.json");
  CHECK(decoded_security({{"security_opt", {"seccomp=/p.json"}}, {"seccomp_profile", "/p.json"}}).seccomp_profile ==
        "/p.json");
  CHECK(decoded_security({{"security_opt", {"apparmor=mine", "label=disable"}}}).apparmor_profile == "mine");
  CHECK(decoded_security({{"security_opt", {"no-new-privileges"}}}).no_new_privileges == true);
  CHECK(decoded_security({{"security_opt", {"no-new-privileges:true"}}}).no_new_privileges == true);
  CHECK(decoded_security({{"security_opt", {"no-new-privileges=false"}}}).no_new_privileges == false);
  CHECK_FALSE(decoded_security(Json::object()).no_new_privileges.has_value());

  CHECK(has(task_error({{"security_opt", {"seccomp=p.json"}}}), "p.json"));
  CHECK(has(task_error({{"security_opt", {"seccomp=/a"}}, {"seccomp_profile", "/b"}}), "contradicts"));
  CHECK(has(task_error({{"security_opt", {"apparmor=a"}}, {"apparmor_profile", "b"}}), "contradicts"));
  CHECK(has(task_error({{"security_opt", {"no-new-privileges=maybe"}}}), "no-new-privileges"));
  CHECK(has(task_error({{"security_opt", {"no-new-privileges"}}, {"no_new_privileges", false}}), "contradicts"));
  CHECK(has(task_error({{"security_opt", {"label=type:x_t"}}}), "type:x_t"));
  CHECK(has(task_error({{"security_opt", {"systempaths=unconfined"}}}), "systempaths"));
  CHECK(has(task_error({{"security_opt", {"seccomp"}}}), "no value"));
  CHECK(has(task_error({{"security_opt", {""}}}), "security_opt"));
  CHECK(has(task_error({{"selinux_opts", {"level:s0"}}}), "level:s0"));
}

TEST_CASE("a custom profile needs the filter; it is on by default") {
  CHECK(decoded_security({{"seccomp_profile", "/p.json"}}).seccomp);
  CHECK(task_error({{"seccomp", false}, {"seccomp_profile", "/p.json"}}) ==
        "seccomp must be set to true, if using a custom seccomp_profile.");
  CHECK(has(task_error({{"seccomp_profile", "p.json"}}), "absolute"));
  CHECK(has(task_error({{"apparmor_profile", "a b"}}), "a b"));
}

TEST_CASE("modes of namespaces, in any case, with the Go driver's sentence") {
  CHECK(decoded_security({{"pid_mode", "host"}}).host_pid);
  CHECK(decoded_security({{"pid_mode", "HOST"}}).host_pid);
  CHECK_FALSE(decoded_security({{"pid_mode", ""}}).host_pid);
  CHECK_FALSE(decoded_security({{"pid_mode", "private"}}).host_pid);
  CHECK(decoded_security({{"ipc_mode", "host"}}).host_ipc);
  CHECK_FALSE(decoded_security({{"ipc_mode", "shareable"}}).host_ipc);
  CHECK(decoded_security({{"uts_mode", "host"}}).host_uts);
  CHECK(decoded_security({{"cgroupns", "host"}}).host_cgroup);
  CHECK(decoded_security({{"userns_mode", "host"}}).userns_mode == "host");
  CHECK(decoded_security({{"userns", "host"}}).userns_mode == "host");
  CHECK(has(task_error({{"pid_mode", "container:x"}}),
            "Invalid pid_mode. Set pid_mode=host to enable host pid namespace."));
  CHECK(has(task_error({{"ipc_mode", "container:x"}}), "ipc_mode"));
  CHECK(has(task_error({{"userns_mode", "auto"}}), "auto"));
  CHECK(has(task_error({{"uts_mode", "host"}, {"hostname", "web"}}), "hostname"));
}

TEST_CASE("ulimit and file_limit") {
  const TaskOptions options = decoded_security({{"ulimit", {{{"nofile", "10:20"}}, {{"nproc", "5"}}}}});
  CHECK(options.ulimit.at("nofile") == (driver::Ulimit{10, 20}));
  CHECK(options.ulimit.at("nproc") == (driver::Ulimit{5, 5}));
  CHECK(decoded_security({{"file_limit", 4096}}).ulimit.at("nofile") == (driver::Ulimit{4096, 4096}));
  CHECK(decoded_security({{"file_limit", 4096}, {"ulimit", {{"nofile", "4096"}}}}).ulimit.size() == 1);
  CHECK(has(task_error({{"file_limit", 4096}, {"ulimit", {{"nofile", "1"}}}}), "file_limit"));
  CHECK(decoded_security({{"file_limit", 0}}).ulimit.empty());
  CHECK(has(task_error({{"file_limit", -1}}), "file_limit"));
  CHECK(has(task_error({{"ulimit", {{"files", "1"}}}}), "files"));
  CHECK(has(task_error({{"ulimit", {{"nofile", "many"}}}}), "ulimit.nofile"));
}

TEST_CASE("limits of CPU and memory") {
  CHECK(decoded_security({{"cpuset_cpus", "0-3,7"}, {"cpuset_mems", "0"}}).cpuset_cpus == "0-3,7");
  CHECK(decoded_security({{"memory_swap", "-1"}}).memory_swap == "-1");
  CHECK(decoded_security({{"memory_reservation", "64m"}}).memory_reservation == 64u << 20);
  CHECK(decoded_security({{"memory_swappiness", 0}}).memory_swappiness == 0);
  for (const char* list : {"a", "1-", "-1", "3-1", "1,,2", "1,", "1 ", "99999"}) {
    CAPTURE(list);
    CHECK(has(task_error({{"cpuset_cpus", list}}), "cpuset_cpus"));
  }
  CHECK(has(task_error({{"memory_swap", "lots"}}), "memory_swap"));
  CHECK(has(task_error({{"memory_swappiness", 101}}), "memory_swappiness"));
  CHECK(has(task_error({{"oom_score_adj", -1}}), "oom_score_adj"));
  CHECK(has(task_error({{"oom_score_adj", 1001}}), "oom_score_adj"));
  CHECK(has(task_error({{"cpu_cfs_period", 999}}), "cpu_cfs_period"));
  CHECK(has(task_error({{"memory_hard_limit", -1}}), "memory_hard_limit"));
  CHECK(has(task_error({{"storage_opt", {{{"size", "10G"}}}}}), "storage_opt"));
  CHECK(task_error({{"storage_opt", Json::array()}}).empty());
}

TEST_CASE("gates of the node") {
  CHECK(plugin_error({{"profile", "hardened"}}).empty());
  CHECK(has(plugin_error({{"profile", "paranoid"}}), "paranoid"));
  CHECK(has(plugin_error({{"allow_caps", {"CAP_FLYING"}}}), "CAP_FLYING"));
  CHECK(has(plugin_error({{"allowed_modes", {"net"}}}), "net"));
  CHECK(has(plugin_error({{"allowed_modes", Json::array()}}), "allowed_modes"));
  CHECK(has(plugin_error({{"runtimes", {{"crun", "bin/crun"}}}}), "bin/crun"));
  CHECK(has(plugin_error({{"runtimes", {{"crun", ""}}}}), "crun"));
  CHECK(has(plugin_error({{"volumes", {{"enabled", "maybe"}}}}), "volumes.enabled"));
  const auto options = driver::decode_plugin_options({{"volumes", {{{"enabled", false}}}}});
  REQUIRE(options);
  CHECK(options->volumes.enabled == false);
}

TEST_CASE("the shim's type, as agent files of the Go driver have it") {
  CHECK(plugin_error({{"containerd_runtime", "io.containerd.runc.v2"}}).empty());
  CHECK(plugin_error({{"containerd_runtime", "io.containerd.runc.v1"}}).empty());
  CHECK(has(plugin_error({{"containerd_runtime", "io.containerd.runsc.v1"}}), "io.containerd.runsc.v1"));
  CHECK(has(plugin_error({{"containerd_runtime", ""}}), "containerd_runtime"));
}
