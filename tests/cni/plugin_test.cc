#include "cni/plugin.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <thread>

#include "base/file.h"
#include "tests/cni/scripts.h"

using base::Code;
using base::Context;

namespace {

const cni::Attachment kAttachment = [] {
  cni::Attachment made;
  made.container_id = "c1";
  made.netns = "/run/netns/c1";
  made.args = {{"IgnoreUnknown", "1"}};
  return made;
}();

base::Result<std::string> run(const tests::Scripts& scripts, const std::string& type,
                              std::chrono::milliseconds timeout = std::chrono::seconds(10)) {
  const cni::Plugins plugins({scripts.bin()});
  return plugins.run(Context::background().with_timeout(timeout), {cni::Command::kAdd, type, &kAttachment, "{}", {}});
}

}  // namespace

TEST_CASE("a plugin gets an environment made for it, its input, and answers") {
  const tests::Scripts scripts;
  scripts.add("good", "echo '{}'; echo noise >&2");
  ::setenv("SECRET_OF_OURS", "1", 1);
  const auto answer = run(scripts, "good");
  ::unsetenv("SECRET_OF_OURS");
  REQUIRE(answer);
  CHECK_EQ(*answer, "{}\n");
  CHECK_EQ(scripts.text("good.ADD"), "{}");
  const std::string env = scripts.text("good.env");
  for (const char* line : {"CNI_COMMAND=ADD\n", "CNI_CONTAINERID=c1\n", "CNI_NETNS=/run/netns/c1\n",
                           "CNI_IFNAME=eth0\n", "CNI_ARGS=IgnoreUnknown=1\n", "PATH=/usr/local/sbin:"}) {
    CHECK(env.find(line) != std::string::npos);
  }
  CHECK(env.find("CNI_PATH=" + scripts.bin() + "\n") != std::string::npos);
  CHECK(env.find("SECRET") == std::string::npos);
}

TEST_CASE("plugins that fail, each in one sentence with its program") {
  const tests::Scripts scripts;
  const struct {
    const char* type;
    const char* body;
    Code code;
    const char* says;
  } cases[] = {
      {"object", R"(echo '{"code":100,"msg":"the moon is full"}'; exit 1)", Code::kFailedPrecondition,
       "the moon is full"},
      {"object-and-0", R"(echo '{"code":7,"msg":"bad config"}'; exit 0)", Code::kInvalidArgument, "bad config"},
      {"later", R"(echo '{"code":11,"msg":"try later"}'; exit 1)", Code::kUnavailable, "try later"},
      {"silent", "exit 3", Code::kFailedPrecondition, "exited with 3 and said nothing"},
      {"stderr", "echo complaint >&2; exit 3", Code::kFailedPrecondition, "exited with 3 and said: complaint"},
      {"text", "echo no JSON; exit 1", Code::kFailedPrecondition, "said: no JSON"},
      {"killed", "kill -9 $$", Code::kFailedPrecondition, "was killed by SIGKILL"},
      {"both", R"(echo '{"ips":[]}{"code":1,"msg":"m"}'; exit 1)", Code::kFailedPrecondition, "exited with 1 and said"},
      {"big", "head -c 10485760 /dev/zero | tr '\\0' x", Code::kResourceExhausted, "larger than the limit"},
  };
  for (const auto& each : cases) {
    CAPTURE(each.type);
    scripts.add(each.type, each.body);
    const auto answer = run(scripts, each.type);
    REQUIRE_FALSE(answer);
    CHECK_EQ(answer.error().code, each.code);
    CHECK_MESSAGE(answer.error().message.find(each.says) != std::string::npos, answer.error().message);
    CHECK(answer.error().message.find(scripts.bin() + "/" + each.type) != std::string::npos);
    CHECK(answer.error().message.size() < 1000);
    CHECK(answer.error().message.find('\n') == std::string::npos);
  }
}

TEST_CASE("a plugin that hangs is killed with all that it started") {
  const tests::Scripts scripts;
  scripts.add("hang", "sleep 600 & echo $! > " + (scripts.dir() / "pid") + "; exec sleep 600");
  const auto answer = run(scripts, "hang", std::chrono::milliseconds(500));
  REQUIRE_FALSE(answer);
  CHECK_EQ(answer.error().code, Code::kDeadlineExceeded);
  CHECK(answer.error().message.find("did not answer in time") != std::string::npos);
  const pid_t child = std::stoi(scripts.text("pid"));
  // It is a zombie of whoever reaps here until then.
  bool gone = false;
  for (int i = 0; i < 100 && !gone; ++i) {
    const auto stat = base::read_file(base::str("/proc/", child, "/stat"), 4096);
    gone = !stat || stat->find(") Z ") != std::string::npos;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  CHECK(gone);
}

TEST_CASE("a plugin that is missing, not executable, or could be somebody else's") {
  const tests::Scripts scripts;
  auto answer = run(scripts, "nope");
  REQUIRE_FALSE(answer);
  CHECK_EQ(answer.error().code, Code::kNotFound);
  CHECK(answer.error().message.find("there is no plugin \"nope\" in " + scripts.bin()) != std::string::npos);
  scripts.add("plain", "echo {}");
  const std::string path = scripts.bin() + "/plain";
  for (const auto& [mode, says] : {std::pair{0644, "not executable"}, {0777, "written to by others"}}) {
    REQUIRE(::chmod(path.c_str(), static_cast<mode_t>(mode)) == 0);
    answer = run(scripts, "plain");
    REQUIRE_FALSE(answer);
    CHECK_EQ(answer.error().code, Code::kFailedPrecondition);
    CHECK(answer.error().message.find(says) != std::string::npos);
  }
  REQUIRE(::mkdir((scripts.bin() + "/folder").c_str(), 0755) == 0);
  CHECK(run(scripts, "folder").error().message.find("is not a file") != std::string::npos);
}

TEST_CASE("a plugin that is being written is waited for") {
  const tests::Scripts scripts;
  scripts.add("busy", "echo {}");
  // The kernel refuses to run a file that is open for writing.
  base::Fd writer(::open((scripts.bin() + "/busy").c_str(), O_WRONLY | O_CLOEXEC));
  REQUIRE(writer);
  std::jthread closer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    writer.reset();
  });
  CHECK(run(scripts, "busy"));
}
