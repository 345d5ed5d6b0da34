#include "driver/spec/security.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>

#include "base/json.h"
#include "tests/golden.h"
#include "tests/temp_dir.h"

using base::Json;
using Caps = std::set<std::string>;

namespace {

Caps resolve(const std::vector<std::string>& add, const std::vector<std::string>& drop,
             const driver::HostFacts& facts = {}) {
  const auto caps = driver::resolve_capabilities(add, drop, facts);
  REQUIRE_MESSAGE(caps.has_value(), caps.error().message);
  return *caps;
}

/// The rules of a profile that speak of `name`.
std::vector<Json> rules_for(const Json& profile, const std::string& name) {
  std::vector<Json> found;
  for (const Json& rule : profile["syscalls"]) {
    const auto& names = rule["names"];
    if (std::find(names.begin(), names.end(), name) != names.end()) found.push_back(rule);
  }
  return found;
}

bool allowed(const Json& profile, const std::string& name) {
  for (const Json& rule : rules_for(profile, name)) {
    if (rule["action"] == "SCMP_ACT_ALLOW" && !rule.contains("args")) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("default capabilities are Nomad's thirteen, without NET_RAW") {
  CHECK(driver::default_capabilities().size() == 13);
  CHECK_FALSE(driver::default_capabilities().contains("CAP_NET_RAW"));
  CHECK(resolve({}, {}) == driver::default_capabilities());
}

TEST_CASE("names come with or without CAP_, in any case") {
  for (const char* name : {"NET_ADMIN", "net_admin", "CAP_NET_ADMIN", "cap_Net_Admin"}) {
    CHECK(driver::normalize_capability(name).value_or(std::string()) == "CAP_NET_ADMIN");
  }
  CHECK(driver::normalize_capability("all").value_or(std::string()) == "ALL");
  for (const char* name : {"", "FLYING", "CAP_FLYING", "NET ADMIN", "CAP_CAP_NET_ADMIN"}) {
    const auto bad = driver::normalize_capability(name);
    REQUIRE_FALSE(bad);
    CHECK(bad.error().code == base::Code::kInvalidArgument);
    CHECK(bad.error().message.find(name) != std::string::npos);
  }
}

TEST_CASE("add, drop and ALL") {
  CHECK(resolve({"NET_RAW"}, {}).contains("CAP_NET_RAW"));
  CHECK_FALSE(resolve({}, {"chown"}).contains("CAP_CHOWN"));
  CHECK(resolve({}, {"ALL"}).empty());
  CHECK(resolve({"NET_ADMIN"}, {"ALL"}) == Caps{"CAP_NET_ADMIN"});
  CHECK(resolve({"ALL"}, {}).size() == 41);
  CHECK_FALSE(resolve({"ALL"}, {"SYS_ADMIN"}).contains("CAP_SYS_ADMIN"));
  CHECK(resolve({"ALL"}, {"ALL"}).empty());
  CHECK_FALSE(resolve({"NET_RAW"}, {"NET_RAW"}).contains("CAP_NET_RAW"));
  const auto bad = driver::resolve_capabilities({}, {"CAP_FLYING"}, {});
  REQUIRE_FALSE(bad);
  CHECK(bad.error().message.find("cap_drop") != std::string::npos);
  CHECK(bad.error().message.find("CAP_FLYING") != std::string::npos);
}

TEST_CASE("what the node allows: the defaults are cut down to it, more is refused by name") {
  const std::optional<Caps> allowed = Caps{"CAP_CHOWN", "CAP_NET_ADMIN"};
  const auto within = [&](const std::vector<std::string>& add, const std::vector<std::string>& drop) {
    return driver::resolve_capabilities(add, drop, {}, allowed);
  };
  CHECK(within({}, {}).value() == Caps{"CAP_CHOWN"});
  CHECK(within({"net_admin"}, {}).value() == Caps{"CAP_CHOWN", "CAP_NET_ADMIN"});
  CHECK(within({"net_admin"}, {"all"}).value() == Caps{"CAP_NET_ADMIN"});
  for (const char* name : {"SYS_ADMIN", "ALL"}) {
    const auto refused = within({name, "chown"}, {});
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == base::Code::kPermissionDenied);
    CHECK(refused.error().message.find(name) != std::string::npos);
    CHECK(refused.error().message.find("allow_caps") != std::string::npos);
    CHECK(refused.error().message.find("CHOWN") == std::string::npos);
  }
}

TEST_CASE("a process that is not root keeps what was added by name, not the defaults") {
  const Caps granted = {"CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"};
  CHECK(driver::ambient_capabilities({}, granted).empty());
  CHECK(driver::ambient_capabilities({"net_bind_service", "SYS_ADMIN"}, granted) == Caps{"CAP_NET_BIND_SERVICE"});
  CHECK(driver::ambient_capabilities({"all"}, granted) == granted);
}

TEST_CASE("nothing comes out that we do not have ourselves, and what is named is refused") {
  driver::HostFacts facts;
  facts.own_caps = {"CAP_CHOWN", "CAP_SYS_ADMIN"};
  const auto refused = driver::resolve_capabilities({"SYS_TIME"}, {}, facts);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message.find("CAP_SYS_TIME") != std::string::npos);
  CHECK(resolve({"ALL"}, {}, facts) == facts.own_caps);
  CHECK(driver::all_capabilities(facts) == facts.own_caps);
  CHECK(driver::all_capabilities({}).size() == 41);
}

TEST_CASE("the default profile, whole") {
  tests::check_golden("spec/seccomp-amd64.json", base::dump_json_pretty(driver::default_seccomp_profile_for(
                                                     "amd64", driver::default_capabilities(), 6, 1)));
}

TEST_CASE("what the default profile must not allow") {
  const Json profile = driver::default_seccomp_profile(driver::default_capabilities(), 6, 1);
  for (const char* name : {"io_uring_setup",
                           "io_uring_enter",
                           "io_uring_register",
                           "keyctl",
                           "add_key",
                           "request_key",
                           "userfaultfd",
                           "kexec_load",
                           "kexec_file_load",
                           "swapon",
                           "swapoff",
                           "pivot_root",
                           "mount",
                           "nfsservctl",
                           "uselib",
                           "ustat",
                           "sysfs",
                           "_sysctl",
                           "vm86",
                           "vm86old",
                           "move_pages",
                           "migrate_pages",
                           "create_module",
                           "clock_settime",
                           "unshare",
                           "setns",
                           "perf_event_open",
                           "bpf",
                           "open_by_handle_at",
                           "fanotify_init",
                           "quotactl",
                           "acct",
                           "reboot",
                           "iopl",
                           "syslog",
                           "personality",
                           "clone",
                           "socket"}) {
    CHECK_MESSAGE(!allowed(profile, name), name);
  }
  for (const char* name : {"read", "execve", "futex", "openat2", "chroot", "ptrace", "statx", "memfd_create"}) {
    CHECK_MESSAGE(allowed(profile, name), name);
  }
  CHECK_FALSE(allowed(driver::default_seccomp_profile(driver::default_capabilities(), 4, 7), "ptrace"));
}

TEST_CASE("sockets: three rules of one condition each keep AF_ALG and AF_VSOCK out") {
  const Json profile = driver::default_seccomp_profile({}, 6, 1);
  const auto allows = [&](std::uint64_t family) {
    bool any = false;
    for (const Json& rule : rules_for(profile, "socket")) {
      REQUIRE(rule["args"].size() == 1);  // runc would OR several
      const Json& arg = rule["args"][0];
      const auto value = arg["value"].get<std::uint64_t>();
      const auto op = arg["op"].get<std::string>();
      any |= op == "SCMP_CMP_LT" ? family < value : op == "SCMP_CMP_EQ" ? family == value : family > value;
    }
    return any;
  };
  CHECK(rules_for(profile, "socket").size() == 3);
  for (const std::uint64_t family : {1ull, 2ull, 10ull, 16ull, 17ull, 37ull, 39ull, 41ull, 45ull})
    CHECK(allows(family));
  CHECK_FALSE(allows(38));
  CHECK_FALSE(allows(40));
}

TEST_CASE("new namespaces need SYS_ADMIN, and clone3 says ENOSYS so that libc falls back") {
  const Json plain = driver::default_seccomp_profile_for("amd64", {}, 6, 1);
  const auto clone = rules_for(plain, "clone");
  REQUIRE(clone.size() == 1);
  CHECK(clone[0]["args"][0] ==
        Json{{"index", 0}, {"value", 0x7E020000}, {"valueTwo", 0}, {"op", "SCMP_CMP_MASKED_EQ"}});
  const auto clone3 = rules_for(plain, "clone3");
  REQUIRE(clone3.size() == 1);
  CHECK(clone3[0]["action"] == "SCMP_ACT_ERRNO");
  CHECK(clone3[0]["errnoRet"] == 38);
  CHECK(rules_for(driver::default_seccomp_profile_for("s390x", {}, 6, 1), "clone")[0]["args"][0]["index"] == 1);

  const Json admin = driver::default_seccomp_profile_for("amd64", {"CAP_SYS_ADMIN"}, 6, 1);
  CHECK(allowed(admin, "clone"));
  CHECK(allowed(admin, "clone3"));
  CHECK(allowed(admin, "mount"));
  CHECK(rules_for(admin, "clone3").size() == 1);
}

TEST_CASE("rules follow the architecture and the capabilities") {
  CHECK(allowed(driver::default_seccomp_profile_for("amd64", {}, 6, 1), "arch_prctl"));
  CHECK_FALSE(allowed(driver::default_seccomp_profile_for("arm64", {}, 6, 1), "arch_prctl"));
  CHECK(allowed(driver::default_seccomp_profile_for("arm64", {}, 6, 1), "set_tls"));
  CHECK(driver::default_seccomp_profile_for("arm64", {}, 6, 1)["architectures"] ==
        Json{"SCMP_ARCH_ARM", "SCMP_ARCH_AARCH64"});
  CHECK(driver::default_seccomp_profile_for("riscv64", {}, 6, 1)["architectures"] ==
        Json::array({"SCMP_ARCH_RISCV64"}));
  CHECK(driver::default_seccomp_profile_for("sparc", {}, 6, 1)["architectures"].empty());
  CHECK(allowed(driver::default_seccomp_profile({"CAP_SYS_TIME"}, 6, 1), "clock_settime"));
  CHECK(allowed(driver::default_seccomp_profile({"CAP_SYSLOG"}, 6, 1), "syslog"));
}

TEST_CASE("hidden and read-only paths") {
  driver::HostFacts facts;
  facts.thermal_paths = {"/sys/devices/system/cpu/cpu0/thermal_throttle"};
  const auto masked = driver::masked_paths(facts);
  for (const char* path : {"/proc/kcore", "/proc/keys", "/proc/interrupts", "/sys/firmware",
                           "/sys/devices/virtual/powercap", "/sys/devices/system/cpu/cpu0/thermal_throttle"}) {
    CHECK_MESSAGE(std::count(masked.begin(), masked.end(), path) == 1, path);
  }
  CHECK(driver::readonly_paths().size() == 5);
}

TEST_CASE("this host's facts are plausible") {
  const driver::HostFacts facts = driver::read_host_facts();
  CHECK(facts.cap_last >= 37);
  CHECK(facts.cap_last < 64);
  CHECK(facts.kernel_major >= 4);
  CHECK(facts.nofile_hard_max >= 1024);
}

TEST_CASE("host devices") {
  const auto null_device = driver::stat_device("/dev/null");
  REQUIRE(null_device);
  CHECK(null_device->type == 'c');
  CHECK(null_device->major == 1);
  CHECK(null_device->minor == 3);
  for (const char* path : {"/no/such/device", "/etc/passwd", "/dev"}) {
    const auto bad = driver::stat_device(path);
    REQUIRE_FALSE(bad);
    CHECK(bad.error().code == base::Code::kInvalidArgument);
    CHECK(bad.error().message.find(path) != std::string::npos);
  }
  const auto devices = driver::host_devices();
  const auto has = [&](const std::string& path) {
    return std::any_of(devices.begin(), devices.end(), [&](const driver::Device& d) { return d.path == path; });
  };
  CHECK(has("/dev/null"));
  CHECK_FALSE(has("/dev/console"));
  for (const driver::Device& device : devices) CHECK_FALSE(device.path.starts_with("/dev/pts/"));
}
