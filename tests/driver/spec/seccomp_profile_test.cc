#include "driver/spec/seccomp_profile.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "tests/golden.h"
#include "tests/temp_dir.h"

using base::Json;
using driver::SeccompTarget;

namespace {

SeccompTarget target(std::set<std::string> caps = driver::default_capabilities()) {
  return {"amd64", std::move(caps), 6, 1};
}

Json resolved(const Json& profile, const SeccompTarget& where = target()) {
  const auto out = driver::resolve_seccomp_profile(profile.dump(), where);
  REQUIRE_MESSAGE(out.has_value(), out.error().message);
  return *out;
}

std::string profile_error(std::string_view text) {
  const auto out = driver::resolve_seccomp_profile(text, target());
  REQUIRE_FALSE(out);
  CHECK(out.error().code == base::Code::kInvalidArgument);
  return out.error().message;
}

Json rule(const char* name, Json more = Json::object()) {
  Json out = {{"names", {name}}, {"action", "SCMP_ACT_ALLOW"}};
  out.update(more);
  return out;
}

/// Whether a profile with this one rule, on `where`, keeps it.
bool keeps(const Json& conditions, const SeccompTarget& where = target()) {
  const Json profile = {{"defaultAction", "SCMP_ACT_ERRNO"}, {"syscalls", {rule("mount", conditions)}}};
  return resolved(profile, where)["syscalls"].size() == 1;
}

}  // namespace

TEST_CASE("a profile in OCI's form stays as it is") {
  const Json profile = {{"defaultAction", "SCMP_ACT_ERRNO"},
                        {"defaultErrnoRet", 1},
                        {"architectures", {"SCMP_ARCH_X86_64"}},
                        {"flags", {"SECCOMP_FILTER_FLAG_LOG"}},
                        {"syscalls",
                         {{{"names", {"read", "write"}}, {"action", "SCMP_ACT_ALLOW"}},
                          {{"names", {"clone3"}}, {"action", "SCMP_ACT_ERRNO"}, {"errnoRet", 38}},
                          {{"names", {"personality"}},
                           {"action", "SCMP_ACT_ALLOW"},
                           {"args", {{{"index", 0}, {"value", 8}, {"valueTwo", 0}, {"op", "SCMP_CMP_EQ"}}}}}}}};
  CHECK(resolved(profile) == profile);
}

TEST_CASE("the default profile passes through unchanged") {
  const Json profile = driver::default_seccomp_profile_for("amd64", driver::default_capabilities(), 6, 1);
  CHECK(resolved(profile) == profile);
}

TEST_CASE("golden: Docker's form, resolved") {
  const Json profile = base::parse_json(tests::read_data("seccomp/docker.json"), "docker.json").value();
  tests::check_golden("seccomp/docker-amd64.json", base::dump_json_pretty(resolved(profile)));
  SeccompTarget other = target({"CAP_SYS_ADMIN"});
  other.arch = "arm64";
  other.kernel_major = 4;
  other.kernel_minor = 4;
  tests::check_golden("seccomp/docker-arm64-admin-old.json", base::dump_json_pretty(resolved(profile, other)));
}

TEST_CASE("conditions: every includes must hold, no excludes may") {
  CHECK(keeps(Json::object()));
  CHECK(keeps({{"includes", Json::object()}, {"excludes", Json::object()}}));
  CHECK(keeps({{"includes", {{"caps", {"CAP_CHOWN"}}}}}));
  CHECK_FALSE(keeps({{"includes", {{"caps", {"CAP_SYS_ADMIN"}}}}}));
  CHECK_FALSE(keeps({{"includes", {{"caps", {"CAP_CHOWN", "CAP_SYS_ADMIN"}}}}}));
  CHECK(keeps({{"excludes", {{"caps", {"CAP_SYS_ADMIN"}}}}}));
  CHECK_FALSE(keeps({{"excludes", {{"caps", {"CAP_SYS_ADMIN", "CAP_CHOWN"}}}}}));
  CHECK(keeps({{"includes", {{"arches", {"arm64", "amd64"}}}}}));
  CHECK_FALSE(keeps({{"includes", {{"arches", {"arm64"}}}}}));
  CHECK_FALSE(keeps({{"excludes", {{"arches", {"amd64"}}}}}));
  CHECK(keeps({{"includes", {{"minKernel", "4.8"}}}}));
  CHECK(keeps({{"includes", {{"minKernel", "6.1"}}}}));
  CHECK_FALSE(keeps({{"includes", {{"minKernel", "6.2"}}}}));
  CHECK_FALSE(keeps({{"excludes", {{"minKernel", "4.8"}}}}));
  CHECK_FALSE(keeps({{"includes", {{"caps", {"CAP_CHOWN"}}, {"minKernel", "7.0"}}}}));
  CHECK_FALSE(keeps({{"includes", {{"caps", {"CAP_CHOWN"}}}}, {"excludes", {{"arches", {"amd64"}}}}}));
}

TEST_CASE("architectures: of the host's entry in archMap") {
  const Json map = {{{"architecture", "SCMP_ARCH_X86_64"}, {"subArchitectures", {"SCMP_ARCH_X86", "SCMP_ARCH_X32"}}},
                    {{"architecture", "SCMP_ARCH_AARCH64"}, {"subArchitectures", {"SCMP_ARCH_ARM"}}}};
  const Json profile = {{"defaultAction", "SCMP_ACT_ALLOW"}, {"archMap", map}};
  CHECK(resolved(profile)["architectures"] == Json{"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"});
  SeccompTarget arm = target();
  arm.arch = "arm64";
  CHECK(resolved(profile, arm)["architectures"] == Json{"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"});
  arm.arch = "riscv64";
  CHECK(resolved(profile, arm)["architectures"].empty());
}

TEST_CASE("a profile with a mistake, and which") {
  const auto with_rule = [](const Json& one) {
    return Json{{"defaultAction", "SCMP_ACT_ERRNO"}, {"syscalls", Json::array({rule("read"), one})}}.dump();
  };
  CHECK(profile_error("").find("not a JSON object") != std::string::npos);
  CHECK(profile_error("[]").find("not a JSON object") != std::string::npos);
  CHECK(profile_error("{}").find("defaultAction") != std::string::npos);
  CHECK(profile_error(R"({"defaultAction": "ALLOW"})").find("defaultAction") != std::string::npos);
  CHECK(profile_error(R"({"defaultAction": "SCMP_ACT_ALLOW", "syscall": []})").find("syscall") != std::string::npos);
  CHECK(profile_error(R"({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/s"})").find("listenerPath") !=
        std::string::npos);
  CHECK(profile_error(R"({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "archMap": []})")
            .find("archMap") != std::string::npos);
  for (const auto& [broken, word] : std::vector<std::pair<Json, std::string>>{
           {1, "not an object"},
           {{{"action", "SCMP_ACT_ALLOW"}}, "does not name a system call"},
           {{{"names", {"a"}}}, "action"},
           {rule("a", {{"action", "SCMP_ACT_NOTIFY"}}), "SCMP_ACT_NOTIFY"},
           {rule("a", {{"include", Json::object()}}), "include"},
           {rule("a", {{"includes", {{"cap", {"CHOWN"}}}}}), "cap"},
           {rule("a", {{"includes", {{"caps", {"CAP_FLYING"}}}}}), "CAP_FLYING"},
           {rule("a", {{"includes", {{"minKernel", "new"}}}}), "minKernel"},
           {rule("a", {{"name", "b"}}), "names"},
           {rule("a", {{"errno", "EPERM"}}), "errnoRet"},
           {rule("a", {{"errnoRet", 5000}}), "errnoRet"},
           {rule("a", {{"args", {{{"index", 6}, {"op", "SCMP_CMP_EQ"}}}}}), "index"},
           {rule("a", {{"args", {{{"index", 0}, {"op", "=="}}}}}), "op"},
           {rule("a", {{"args", {{{"index", 0}, {"value", -1}, {"op", "SCMP_CMP_EQ"}}}}}), "value"}}) {
    const std::string message = profile_error(with_rule(broken));
    CHECK(message.find(word) != std::string::npos);
    CHECK(message.find("syscalls[1]") != std::string::npos);
  }
}

TEST_CASE("the file: what it may be, and that its content is never quoted") {
  const tests::TempDir temp;
  const std::string path = temp / "profile.json";
  REQUIRE(base::write_file_atomic(path, "{}", 0600, base::Durable::kNo));
  CHECK(driver::read_seccomp_profile(path).value_or(std::string()) == "{}");
  REQUIRE(::symlink(path.c_str(), (temp / "link").c_str()) == 0);
  CHECK(driver::read_seccomp_profile(temp / "link"));

  REQUIRE(::mkfifo((temp / "fifo").c_str(), 0600) == 0);
  REQUIRE(base::write_file_atomic(temp / "large", std::string(driver::kSeccompProfileBytesMax + 1, ' '), 0600,
                                  base::Durable::kNo));
  for (const std::string& bad : {temp / "none", temp / "fifo", temp / "large", temp.path().string()}) {
    const auto text = driver::read_seccomp_profile(bad);
    REQUIRE_FALSE(text);
    CHECK(text.error().message.find(bad) != std::string::npos);
  }
  for (const char* secret : {"password=canary", "{\"canary\": 1}", "[\"canary\"]", "{\"defaultAction\": \"canary\"}"}) {
    CHECK(profile_error(secret).find("canary") == std::string::npos);
  }
}
