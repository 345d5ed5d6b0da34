#include "driver/spec/spec.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <optional>
#include <set>

#include "base/json.h"
#include "tests/golden.h"

using base::Json;
using driver::TaskSpec;
using Strings = std::vector<std::string>;

namespace {

constexpr std::int64_t kMiB = 1 << 20;

/// A task as a job on a cgroup v1 host makes it; each case changes what it is about.
struct Case {
  Case() {
    task.id.text = "294c7f2e-9e95-a5b5-5a8b-d94ad8b8348d/web/288edfb1";
    task.name = "web";
    task.alloc_id = "294c7f2e-9e95-a5b5-5a8b-d94ad8b8348d";
    task.options.image = "redis:7";
    task.env = {{"NOMAD_TASK_DIR", "/local"}, {"A", "job"}};
    task.resources.cpu_shares = 500;
    task.resources.memory_bytes = 256 * kMiB;
    image.env = {"PATH=/usr/local/bin:/usr/bin:/bin", "A=image", "B=image", "broken", "=x"};
    image.entrypoint = {"docker-entrypoint.sh"};
    image.cmd = {"redis-server"};
    image.working_dir = "/data";
    image.user = "redis";
    user = {999, 1000, {1000, 29}};
    etc = {"/s/etc/hosts", "/s/etc/resolv.conf", "/s/etc/hostname"};
    host.thermal_paths = {"/sys/devices/system/cpu/cpu0/thermal_throttle"};
  }
  base::Result<Json> build() const {
    return driver::build_spec({.task = task,
                               .image = image,
                               .host = host,
                               .user = user,
                               .network = network,
                               .rootfs = "/s/rootfs",
                               .cgroups_path = "/nomad/alloc.web",
                               .hostname = driver::default_hostname(task),
                               .etc = etc,
                               .mounts = mounts,
                               .pids_limit = pids_limit,
                               .init = init,
                               .allowed_caps = allowed_caps,
                               .seccomp_profile = seccomp_profile,
                               .devices = devices});
  }
  Json spec() const {
    auto built = build();
    REQUIRE_MESSAGE(built.has_value(), built.error().message);
    return std::move(*built);
  }
  std::string error() const {
    const auto built = build();
    if (built) return "";
    CHECK(built.error().code == base::Code::kInvalidArgument);
    return built.error().message;
  }
  /// The seccomp profile has a golden file of its own and depends on the machine.
  void check_golden(const std::string& name) const {
    Json golden = spec();
    if (golden["linux"].contains("seccomp")) golden["linux"]["seccomp"] = "(the default profile)";
    tests::check_golden("spec/" + name + ".json", base::dump_json_pretty(golden));
  }

  TaskSpec task;
  oci::ImageConfig image;
  driver::HostFacts host;
  driver::ResolvedUser user;
  driver::NetworkPlan network;
  driver::EtcFiles etc;
  std::vector<driver::Mount> mounts;
  std::int64_t pids_limit = 0;
  std::string init;
  std::optional<std::set<std::string>> allowed_caps;
  std::string seccomp_profile;
  std::vector<driver::Device> devices;
};

Strings args_of(const driver::TaskOptions& options, const oci::ImageConfig& image) {
  return driver::container_args(options, image).value_or(Strings{"(error)"});
}

}  // namespace

TEST_CASE("golden: a plain task") {
  Case().check_golden("plain");
}

TEST_CASE("golden: cgroup v2, the allocation's network, memory_max, cores, mounts") {
  Case c;
  c.host.cgroup_mode = driver::CgroupMode::kV2;
  c.network = {driver::NetworkPlan::Kind::kJoin, "/var/run/netns/294c7f2e"};
  c.task.resources.memory_max_bytes = 512 * kMiB;
  c.task.resources.cpuset_cpus = "0,2";
  c.pids_limit = 100;
  c.task.options.sysctl = {{"net.core.somaxconn", "16384"}};
  c.task.options.readonly_rootfs = true;
  c.mounts = {{"/local", "bind", "/n/web/local", {"rbind", "rprivate", "rw"}},
              {"/dev/shm", "tmpfs", "tmpfs", {"size=256m"}},
              {"/csi", "bind", "/n/csi", {"rbind", "rslave", "rw"}}};
  c.check_golden("v2-group");
}

TEST_CASE("golden: privileged in the host's network") {
  Case c;
  c.network.kind = driver::NetworkPlan::Kind::kHost;
  c.task.options.privileged = true;
  c.host.own_caps = {"CAP_CHOWN", "CAP_SYS_ADMIN"};
  c.devices = {{.path = "/dev/loop0", .type = 'b', .major = 7, .minor = 0, .mode = 0660, .uid = 0, .gid = 6}};
  c.check_golden("privileged");
}

TEST_CASE("entrypoint, command and args") {
  oci::ImageConfig image;
  image.entrypoint = {"/e"};
  image.cmd = {"c1", "c2"};
  driver::TaskOptions options;
  CHECK(args_of(options, image) == Strings{"/e", "c1", "c2"});
  options.command = "cmd";
  CHECK(args_of(options, image) == Strings{"/e", "cmd"});
  options.args = {"a", ""};
  CHECK(args_of(options, image) == Strings{"/e", "cmd", "a", ""});
  options.command = "";
  CHECK(args_of(options, image) == Strings{"/e", "a", ""});
  options.entrypoint = {"/x", "y"};
  CHECK(args_of(options, image) == Strings{"/x", "y", "a", ""});
  options.command = "cmd";
  CHECK(args_of(options, image) == Strings{"/x", "y", "cmd", "a", ""});
  options = {};
  options.entrypoint = {"/x"};
  CHECK(args_of(options, image) == Strings{"/x"});  // the image's CMD is dropped

  image = {};
  options = {};
  options.image = "scratch:1";
  const auto nothing = driver::container_args(options, image);
  REQUIRE_FALSE(nothing);
  CHECK(nothing.error().message.find("scratch:1") != std::string::npos);
  options.entrypoint = {""};
  CHECK_FALSE(driver::container_args(options, image));

  options.entrypoint = Strings{};  // clears the image's
  CHECK_FALSE(driver::container_args(options, image));
  image.entrypoint = {"/e"};
  image.cmd = {"c"};
  CHECK(args_of(options, image) == Strings{"c"});
  options.args = {"a"};
  CHECK(args_of(options, image) == Strings{"a"});
  options.command = "cmd";
  CHECK(args_of(options, image) == Strings{"cmd", "a"});
}

TEST_CASE("the job's environment wins over the image's; PATH is always there") {
  const Case c;
  CHECK(driver::container_env(c.task, c.image) ==
        Strings{"A=job", "B=image", "NOMAD_TASK_DIR=/local", "PATH=/usr/local/bin:/usr/bin:/bin"});
  CHECK(driver::container_env({}, {}) == Strings{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"});
  TaskSpec task;
  task.env["PATH"] = "/mine";
  CHECK(driver::container_env(task, c.image).back() == "PATH=/mine");
  task.options.tty = true;
  CHECK(driver::container_env(task, {}, "web") == Strings{"HOSTNAME=web", "PATH=/mine", "TERM=xterm"});
  task.env["TERM"] = "vt100";
  task.env["HOSTNAME"] = "mine";
  CHECK(driver::container_env(task, {}, "web") == Strings{"HOSTNAME=mine", "PATH=/mine", "TERM=vt100"});
}

TEST_CASE("user and working directory: the job's, else the image's") {
  Case c;
  CHECK(driver::container_user(c.task, c.image) == "redis");
  CHECK(driver::container_cwd(c.task, c.image) == "/data");
  c.task.user = "nobody";
  c.task.options.cwd = "/srv";
  CHECK(driver::container_user(c.task, c.image) == "nobody");
  CHECK(driver::container_cwd(c.task, c.image) == "/srv");
  CHECK(driver::container_cwd({}, {}) == "/");
}

TEST_CASE("host names have at most 63 bytes of what DNS allows") {
  Case c;
  CHECK(driver::default_hostname(c.task) == "web-294c7f2e-9e95-a5b5-5a8b-d94ad8b8348d");
  c.task.name = std::string(80, 'x');
  CHECK(driver::default_hostname(c.task) == std::string(26, 'x') + "-294c7f2e-9e95-a5b5-5a8b-d94ad8b8348d");
  c.task.name = "__my task.é_";
  c.task.alloc_id = "";
  CHECK(driver::default_hostname(c.task) == "my-task");
  c.task.name = "___";
  CHECK(driver::default_hostname(c.task) == "container");
  c.task.network = driver::NetworkIsolation{};
  c.task.network->hosts_hostname = "group";
  CHECK(driver::default_hostname(c.task) == "group");
  c.task.options.hostname = "mine";
  CHECK(driver::default_hostname(c.task) == "mine");
}

TEST_CASE("memory: limit, reservation and no limit") {
  Case c;
  const auto memory = [&] { return c.spec()["linux"]["resources"].value("memory", Json()); };
  CHECK(memory() == Json{{"limit", 256 * kMiB}, {"swap", 256 * kMiB}});
  c.task.resources.memory_max_bytes = 512 * kMiB;
  CHECK(memory() == Json{{"limit", 512 * kMiB}, {"swap", 512 * kMiB}, {"reservation", 256 * kMiB}});
  c.host.swap_accounting = false;
  CHECK(memory() == Json{{"limit", 512 * kMiB}, {"reservation", 256 * kMiB}});
  c.task.resources.memory_max_bytes = -1;
  CHECK(memory() == Json{{"limit", -1}, {"reservation", 256 * kMiB}});
  c.host.swap_accounting = true;
  CHECK(memory() == Json{{"limit", -1}, {"swap", -1}, {"reservation", 256 * kMiB}});
  c.task.resources = {};
  CHECK(memory().is_null());
  CHECK_FALSE(c.spec()["linux"]["resources"].contains("cpu"));
}

TEST_CASE("cpu shares stay within what the kernel takes") {
  Case c;
  c.task.resources.cpu_shares = 1;
  CHECK(c.spec()["linux"]["resources"]["cpu"]["shares"] == 2);
  c.task.resources.cpu_shares = 1'000'000;
  CHECK(c.spec()["linux"]["resources"]["cpu"]["shares"] == 262144);
}

TEST_CASE("on a node with more MHz than shares go, tasks keep their proportions") {
  CHECK(driver::cpu_shares_for(500, 0) == 500);  // not known
  CHECK(driver::cpu_shares_for(500, 262'144) == 500);
  CHECK(driver::cpu_shares_for(100'000, 524'288) == 50'000);
  CHECK(driver::cpu_shares_for(400'000, 524'288) == 200'000);
  CHECK(driver::cpu_shares_for(1, 524'288) == 2);
}

TEST_CASE("open files: 1024 to 1048576, or what the host allows") {
  Case c;
  CHECK(c.spec()["process"]["rlimits"][0] == Json{{"type", "RLIMIT_NOFILE"}, {"soft", 1024}, {"hard", 1048576}});
  c.host.nofile_hard_max = 500;
  CHECK(c.spec()["process"]["rlimits"][0] == Json{{"type", "RLIMIT_NOFILE"}, {"soft", 500}, {"hard", 500}});
}

TEST_CASE("devices begin with deny all, whatever follows") {
  Case c;
  c.devices = {{.path = "/dev/fuse", .access = "rw", .type = 'c', .major = 10, .minor = 229}};
  const Json rules = c.spec()["linux"]["resources"]["devices"];
  CHECK(rules.front() == Json{{"allow", false}, {"access", "rwm"}});
  CHECK(rules.back() == Json{{"allow", true}, {"type", "c"}, {"major", 10}, {"minor", 229}, {"access", "rw"}});
}

TEST_CASE("capabilities of a user that is not root") {
  Case c;
  c.task.options.cap_add = {"net_bind_service"};
  Json caps = c.spec()["process"]["capabilities"];
  CHECK(caps["ambient"] == Json{"CAP_NET_BIND_SERVICE"});
  CHECK(caps["inheritable"] == caps["ambient"]);
  CHECK(caps["bounding"].size() == 13);
  c.user.uid = 0;
  caps = c.spec()["process"]["capabilities"];
  CHECK(caps["ambient"].empty());
  CHECK(caps["inheritable"].empty());
  c.allowed_caps = std::set<std::string>{"CAP_CHOWN"};
  CHECK(c.build().error().code == base::Code::kPermissionDenied);
  c.task.options.cap_add = {};
  CHECK(c.spec()["process"]["capabilities"]["bounding"] == Json{"CAP_CHOWN"});
}

TEST_CASE("no new privileges, unless the job says so or is privileged") {
  Case c;
  CHECK(c.spec()["process"]["noNewPrivileges"] == true);
  c.task.options.no_new_privileges = false;
  CHECK(c.spec()["process"]["noNewPrivileges"] == false);
  c.task.options.privileged = true;
  c.task.options.no_new_privileges.reset();
  CHECK(c.spec()["process"]["noNewPrivileges"] == false);
  c.task.options.no_new_privileges = true;
  CHECK(c.spec()["process"]["noNewPrivileges"] == true);
}

TEST_CASE("namespaces of the host are left out, and what goes with them") {
  const auto types = [](const Json& spec) {
    std::set<std::string> out;
    for (const Json& one : spec["linux"]["namespaces"]) out.insert(one["type"].get<std::string>());
    return out;
  };
  Case c;
  CHECK(types(c.spec()) == std::set<std::string>{"cgroup", "ipc", "mount", "network", "pid", "uts"});
  c.task.pid_namespace = "/proc/1/ns/pid";
  const Json joined = c.spec()["linux"]["namespaces"];
  CHECK(std::count(joined.begin(), joined.end(), Json{{"type", "pid"}, {"path", "/proc/1/ns/pid"}}) == 1);
  c.task.pid_namespace.clear();
  c.task.options.host_pid = true;
  c.task.options.host_ipc = true;
  c.task.options.host_uts = true;
  c.task.options.host_cgroup = true;
  const Json spec = c.spec();
  CHECK(types(spec) == std::set<std::string>{"mount", "network"});
  CHECK_FALSE(spec.contains("hostname"));
  const auto shm = std::find_if(spec["mounts"].begin(), spec["mounts"].end(),
                                [](const Json& mount) { return mount["destination"] == "/dev/shm"; });
  REQUIRE(shm != spec["mounts"].end());
  CHECK((*shm)["source"] == "/dev/shm");
}

TEST_CASE("AppArmor's profile and the score for the kernel's OOM killer") {
  Case c;
  CHECK_FALSE(c.spec()["process"].contains("apparmorProfile"));
  CHECK(c.spec()["process"]["oomScoreAdj"] == 0);
  c.task.options.apparmor_profile = "unconfined";
  CHECK_FALSE(c.spec()["process"].contains("apparmorProfile"));
  c.task.options.apparmor_profile = "mine";
  c.task.options.oom_score_adj = 500;
  CHECK(c.spec()["process"]["apparmorProfile"] == "mine");
  CHECK(c.spec()["process"]["oomScoreAdj"] == 500);
}

TEST_CASE("a job's own seccomp profile, for privileged tasks too") {
  Case c;
  c.seccomp_profile = R"({"defaultAction": "SCMP_ACT_ALLOW"})";
  CHECK(c.spec()["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ALLOW");
  c.task.options.privileged = true;
  CHECK(c.spec()["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ALLOW");
  c.seccomp_profile = "";
  CHECK_FALSE(c.spec()["linux"].contains("seccomp"));
  c = Case();
  c.seccomp_profile = "{}";
  c.task.options.seccomp_profile = "/profiles/mine.json";
  CHECK(c.error().find("/profiles/mine.json") != std::string::npos);
}

TEST_CASE("seccomp follows the final capabilities and is absent when it is off") {
  Case c;
  CHECK(c.spec()["linux"]["seccomp"] == driver::default_seccomp_profile(driver::default_capabilities(), 5, 10));
  c.task.options.cap_add = {"sys_admin"};
  CHECK(c.spec()["linux"]["seccomp"] != driver::default_seccomp_profile(driver::default_capabilities(), 5, 10));
  c.task.options.seccomp = false;
  CHECK_FALSE(c.spec()["linux"].contains("seccomp"));
}

TEST_CASE("propagation of mounts reaches the root") {
  Case c;
  CHECK_FALSE(c.spec()["linux"].contains("rootfsPropagation"));
  c.mounts = {{"/a", "bind", "/a", {"rbind", "rslave"}}};
  CHECK(c.spec()["linux"]["rootfsPropagation"] == "rslave");
  c.mounts.push_back({"/b", "bind", "/b", {"rbind", "rshared"}});
  CHECK(c.spec()["linux"]["rootfsPropagation"] == "shared");
}

TEST_CASE("what cannot be built") {
  Case c;
  c.task.options.cap_add = {"CAP_FLYING"};
  CHECK(c.error().find("CAP_FLYING") != std::string::npos);
  c = Case();
  c.task.env["BAD"] = std::string("a\0b", 3);
  CHECK(c.error().find("BAD") != std::string::npos);
  c = Case();
  c.task.env["FITS"] = std::string(131'071 - 5, 'x');
  CHECK(c.error().empty());
  c.task.env["LARGE"] = std::string(131'071 - 5, 'x');
  CHECK(c.error().find("environment variable \"LARGE\" has 131072 bytes") != std::string::npos);
  c = Case();
  c.image.working_dir = "relative";
  CHECK(c.error().find("relative") != std::string::npos);
  c = Case();
  c.image.cmd = {std::string("a\0b", 3)};
  CHECK(c.error().find("NUL") != std::string::npos);
  c = Case();
  c.task.options.sysctl = {{"net.ipv4.ip_forward", "1"}};
  CHECK(c.error().empty());
  c.network.kind = driver::NetworkPlan::Kind::kHost;
  CHECK(c.error().find("net.ipv4.ip_forward") != std::string::npos);
  c.task.options.sysctl = {{"kernel.shmmax", "1"}};
  CHECK(c.error().empty());
  c.task.options.host_ipc = true;
  CHECK(c.error().find("ipc_mode") != std::string::npos);
}

TEST_CASE("init runs the command, from a file of ours") {
  Case c;
  c.init = "/usr/libexec/containerd-driver-init";
  const Json spec = c.spec();
  CHECK(spec["process"]["args"] == Json({"/run/containerd-driver-init", "--", "docker-entrypoint.sh", "redis-server"}));
  int found = 0;
  for (const Json& mount : spec["mounts"]) found += mount["source"] == c.init ? 1 : 0;
  CHECK(found == 1);
}

TEST_CASE("labels are annotations that no runtime takes for an order") {
  Case c;
  c.task.options.labels = {{"team", "a"}, {"run.oci.handler", "krun"}};
  const Json annotations = c.spec()["annotations"];
  CHECK(annotations["containerd-driver.label.team"] == "a");
  CHECK(annotations["containerd-driver.alloc_id"] == c.task.alloc_id);
  for (const auto& [name, value] : annotations.items()) CHECK(name.starts_with("containerd-driver."));
}

TEST_CASE("parents are mounted first, whoever asked for them") {
  Case c;
  c.mounts = {{"/etc", "bind", "/n/web/local/etc", {"rbind", "rprivate", "rw"}}};
  const Json spec = c.spec();
  std::size_t parent = 0;
  std::size_t child = 0;
  for (std::size_t i = 0; i < spec["mounts"].size(); ++i) {
    if (spec["mounts"][i]["destination"] == "/etc") parent = i;
    if (spec["mounts"][i]["destination"] == "/etc/hosts") child = i;
  }
  CHECK(parent < child);
}

TEST_CASE("the same input gives the same bytes") {
  CHECK(base::dump_json(Case().spec()) == base::dump_json(Case().spec()));
}

TEST_CASE("a command in a container has the container's rights and no terminal") {
  const Json process = driver::exec_process(Case().spec(), {"ls", "-l"});
  CHECK(process["args"] == Json{"ls", "-l"});
  CHECK(process["terminal"] == false);
  CHECK(process["user"]["uid"] == 999);
  CHECK(process["capabilities"] == Case().spec()["process"]["capabilities"]);
  CHECK(driver::exec_process(Json(), {"ls"})["args"].size() == 1);
}
