#include "oci/images.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/stat.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "base/file.h"
#include "oci/pull_protocol.h"
#include "tests/failing_call.h"
#include "tests/oci/image_fixture.h"
#include "tests/temp_dir.h"

using base::Code;
using base::Context;

namespace {

/// A store, and a shell script that plays the helper.
class Fixture {
 public:
  Fixture() : store(dir / "data") { REQUIRE(store.create().has_value()); }
  oci::ImagesOptions helper(const std::string& script) {
    const std::string path = dir / "helper";
    std::ofstream(path) << "#!/bin/sh\n" << script;
    ::chmod(path.c_str(), 0755);
    return {dir / "data", path};
  }
  std::string read(const std::string& name) { return base::read_file(dir / name, 1 << 20).value_or(""); }

  tests::TempDir dir;
  oci::Store store;
};

oci::PullRequest request(const std::string& reference) {
  oci::PullRequest out;
  out.reference = reference;
  return out;
}

// `seconds` at most, until the condition holds.
template <typename Condition>
bool eventually(Condition condition) {
  for (int i = 0; i < 1000; ++i) {
    if (condition()) return true;
    [[maybe_unused]] const auto slept = Context::background().sleep(std::chrono::milliseconds(10));
  }
  return false;
}

}  // namespace

TEST_CASE("a complete image needs no helper") {
  Fixture f;
  tests::add_image(f.store, "docker.io/library/a:latest", {"one"});
  oci::Images images({f.dir / "data", "/nonexistent"});
  const auto image = images.ensure(Context::cleanup(), request("a"));
  REQUIRE(image.has_value());
  CHECK_EQ(image->reference, "docker.io/library/a:latest");
  CHECK(images.find("docker.io/a").has_value());
  CHECK_EQ(images.find("b").error().code, Code::kNotFound);
  REQUIRE_EQ(images.list()->size(), 1);
  CHECK_GT(images.list()->front().size_bytes, 100);
}

TEST_CASE("a list says which images cannot be used, and why") {
  Fixture f;
  tests::add_image(f.store, "docker.io/library/a:latest", {"one"});
  tests::add_image(f.store, "docker.io/library/b:latest", {"two"});
  const oci::Digest layer = oci::Digest::of_bytes("one");
  std::filesystem::remove(f.store.layer_path(layer));
  oci::Images images({f.dir / "data", "/nonexistent"});
  const auto list = images.list();
  REQUIRE(list.has_value());
  REQUIRE_EQ(list->size(), 2);
  CHECK_NE(list->at(0).problem.find(layer.text()), std::string::npos);
  CHECK(list->at(1).problem.empty());
}

TEST_CASE("a relative data_dir is taken from where this process is") {
  Fixture f;
  tests::add_image(f.store, "docker.io/library/a:latest", {"one"});
  oci::Images images({std::filesystem::proximate(f.dir / "data").string(), "/nonexistent"});
  const auto image = images.find("a");
  REQUIRE(image.has_value());
  CHECK(image->layer_dirs.front().starts_with('/'));
}

TEST_CASE("a missing image is pulled by the helper, which gets its request on stdin and nothing by environment") {
  Fixture f;
  const auto options =
      f.helper(base::str("cat > ", f.dir / "request", "; env > ", f.dir / "env", "; echo \"$@\" > ", f.dir / "argv",
                         "\nmv ", f.dir / "data/index.new", " ", f.dir / "data/index.json",
                         "\necho '{\"progress\":{\"bytes_done\":1,\"bytes_total\":2,\"layers_done\":0,"
                         "\"layers_total\":1}}'\necho '{\"warning\":\"w\"}'\necho '{\"done\":{}}'\n"));
  tests::add_image(f.store, "docker.io/library/a:latest", {"one"});
  std::filesystem::rename(f.dir / "data/index.json", f.dir / "data/index.new");

  ::setenv("HTTP_PROXY", "http://proxy.example:1", 1);
  ::setenv("SOME_SECRET", "hunter2", 1);
  oci::Images images(options);
  auto wanted = request("a");
  wanted.credentials = {"user", "s3cret"};
  std::atomic<int> calls{0};
  wanted.on_progress = [&](const oci::PullProgress& p) { calls += p.bytes_total == 2 ? 1 : 100; };
  const auto image = images.ensure(Context::cleanup(), wanted);
  ::unsetenv("HTTP_PROXY");
  ::unsetenv("SOME_SECRET");
  REQUIRE(image.has_value());
  CHECK_EQ(calls.load(), 1);
  CHECK_NE(f.read("request").find("s3cret"), std::string::npos);
  CHECK_EQ(f.read("env").find("s3cret"), std::string::npos);
  CHECK_EQ(f.read("env").find("hunter2"), std::string::npos);
  CHECK_NE(f.read("env").find("http_proxy=http://proxy.example:1"), std::string::npos);
  CHECK_EQ(f.read("argv"), "\n");
}

TEST_CASE("the helper has a session of its own, and no terminal or log of ours to write to") {
  Fixture f;
  oci::Images images(f.helper(base::str("cat >/dev/null; cut -d' ' -f6 /proc/$$/stat > ", f.dir / "session",
                                        "; echo $$ > ", f.dir / "pid", "; readlink /proc/$$/fd/2 > ", f.dir / "stderr",
                                        "; head -c 1000000 /dev/zero >&2; printf 'x\\033[2J' >&2",
                                        "; echo '{\"error\":{\"code\":7,\"message\":\"denied\"}}'; exit 1")));
  const auto image = images.ensure(Context::cleanup(), request("a"));
  CHECK_EQ(image.error().code, Code::kPermissionDenied);  // a full pipe does not stop it
  CHECK_EQ(f.read("session"), f.read("pid"));
  CHECK_EQ(f.read("stderr").substr(0, 6), "pipe:[");
}

TEST_CASE("what is here and cannot be read now is not pulled over") {
  Fixture f;
  const auto record = tests::add_image(f.store, "docker.io/library/a:latest", {"one"});
  const std::string manifest(record.manifest_digest.hex());
  const std::string layer(oci::Digest::of_bytes("one").hex());
  struct Case {
    const char* call;
    std::string path;
  };
  const Case cases[] = {{"open", "/index.json"}, {"stat", "/index.json"}, {"read", "/index.json"},
                        {"open", manifest},      {"read", manifest},      {"stat", "layers/" + layer}};
  for (const Case& c : cases) {
    for (const int error : {EMFILE, ENOMEM, EIO, EACCES}) {
      CAPTURE(c.call);
      CAPTURE(c.path);
      CAPTURE(error);
      oci::Images images(f.helper(base::str("echo x >> ", f.dir / "runs")));
      const tests::FailingCall failing(c.call, c.path, error);
      const auto image = images.ensure(Context::cleanup(), request("a"));
      CHECK_GT(failing.times(), 0);
      REQUIRE_FALSE(image.has_value());
      CHECK_EQ(image.error().sys_errno, error);
    }
  }
  CHECK(f.read("runs").empty());

  std::ofstream(f.dir / "data/index.json") << "{";
  oci::Images images(f.helper(base::str("echo x >> ", f.dir / "runs")));
  CHECK_EQ(images.ensure(Context::cleanup(), request("a")).error().code, Code::kDataLoss);
  CHECK_EQ(images.pull(Context::cleanup(), request("b")).error().code, Code::kDataLoss);
  CHECK(f.read("runs").empty());
}

TEST_CASE("an image that has no room in index.json is not fetched") {
  Fixture f;
  const auto record = tests::add_image(f.store, "docker.io/library/a:latest", {"one"});
  const std::vector<oci::ImageRecord> many(10'000, record);
  std::ofstream(f.dir / "data/index.json") << oci::format_index_file(many);
  oci::Images images(f.helper(base::str("echo x >> ", f.dir / "runs")));
  const auto refused = images.ensure(Context::cleanup(), request("b"));
  REQUIRE_FALSE(refused.has_value());
  CHECK_EQ(refused.error().code, Code::kResourceExhausted);
  CHECK(images.ensure(Context::cleanup(), request("a")).has_value());
  CHECK(f.read("runs").empty());
}

TEST_CASE("credentials that are longer than a request may be are refused before the helper starts") {
  Fixture f;
  oci::Images images(f.helper(base::str("echo x >> ", f.dir / "runs")));
  auto wanted = request("a");
  wanted.credentials = {"user", std::string(oci::kHelperRequestBytesMax, 'x')};
  const auto image = images.ensure(Context::cleanup(), wanted);
  REQUIRE_FALSE(image.has_value());
  CHECK_EQ(image.error().code, Code::kInvalidArgument);
  CHECK_EQ(image.error().message.find("xxx"), std::string::npos);
  CHECK(f.read("runs").empty());
}

TEST_CASE("nothing is collected by those who do not know what is in use") {
  Fixture f;
  tests::add_image(f.store, "docker.io/library/a:latest", {"one"});
  oci::Images images({f.dir / "data", "/nonexistent"});
  oci::GcRequest everything;
  everything.all = true;
  CHECK_EQ(images.collect(Context::cleanup(), everything).error().code, Code::kFailedPrecondition);
  CHECK(images.find("a").has_value());
}

TEST_CASE("the helper's error is the caller's") {
  Fixture f;
  oci::Images images(
      f.helper("cat >/dev/null; echo '{\"error\":{\"code\":7,\"message\":\"pull access denied\"}}'; exit 1"));
  const auto image = images.ensure(Context::cleanup(), request("a"));
  REQUIRE_FALSE(image.has_value());
  CHECK_EQ(image.error().code, Code::kPermissionDenied);
  CHECK_EQ(image.error().message, "pull access denied");
}

TEST_CASE("a helper that dies, sends garbage or is not there") {
  Fixture f;
  struct Case {
    const char* script;
    Code code;
    const char* says;
  };
  const Case cases[] = {
      {"kill -9 $$", Code::kInternal, "SIGKILL"},
      {"exit 3", Code::kInternal, "exited with 3"},
      {"cat >/dev/null; echo hello", Code::kInvalidArgument, "helper"},
      {"cat >/dev/null; echo '{\"done\":{}}'", Code::kNotFound, "not in the store"},
      {"cat >/dev/null; head -c 300000 /dev/zero | tr '\\0' x; sleep 100", Code::kInternal, "a line of more than"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.script);
    oci::Images images(f.helper(c.script));
    const auto image = images.ensure(Context::cleanup(), request("a"));
    REQUIRE_FALSE(image.has_value());
    CHECK_EQ(image.error().code, c.code);
    CHECK_NE(image.error().message.find(c.says), std::string::npos);
  }
  oci::Images images({f.dir / "data", "/nonexistent"});
  CHECK_EQ(images.ensure(Context::cleanup(), request("a")).error().code, Code::kFailedPrecondition);
  CHECK_EQ(images.ensure(Context::cleanup(), request("A!")).error().code, Code::kInvalidArgument);
}

TEST_CASE("callers of one image share a pull; one that leaves does not end it for the others") {
  Fixture f;
  tests::add_image(f.store, "docker.io/library/a:latest", {"one"});
  std::filesystem::rename(f.dir / "data/index.json", f.dir / "data/index.new");
  oci::Images images(f.helper(base::str("cat >/dev/null; echo x >> ", f.dir / "runs", "; while [ ! -e ", f.dir / "go",
                                        " ]; do sleep 0.02; done; mv ", f.dir / "data/index.new", " ",
                                        f.dir / "data/index.json", "; echo '{\"done\":{}}'")));
  std::stop_source leave;
  std::optional<Code> leader;
  std::jthread first([&] {
    const auto image = images.ensure(Context::background().with_stop(leave.get_token()), request("a"));
    leader = image ? Code::kOk : image.error().code;
  });
  REQUIRE(eventually([&] { return f.read("runs") == "x\n"; }));
  std::atomic<int> good{0};
  std::vector<std::jthread> others;
  for (int i = 0; i < 5; ++i) {
    others.emplace_back([&] { good += images.ensure(Context::cleanup(), request("docker.io/a")).has_value() ? 1 : 0; });
  }
  // The others are in as soon as progress is theirs; there is no event for that, so wait for them to be blocked.
  REQUIRE(eventually([&] { return !images.find("a").has_value(); }));
  [[maybe_unused]] const auto joined = Context::background().sleep(std::chrono::milliseconds(200));
  leave.request_stop();
  first.join();
  CHECK_EQ(*leader, Code::kCancelled);
  std::ofstream(f.dir / "go") << "go";
  others.clear();
  CHECK_EQ(good.load(), 5);
  CHECK_EQ(f.read("runs"), "x\n");
}

TEST_CASE("when the last caller leaves, the helper and its children end") {
  Fixture f;
  oci::Images images(f.helper(base::str("cat >/dev/null; trap 'echo term > ", f.dir / "term",
                                        "; exit 0' TERM; sleep 1000 & echo $! > ", f.dir / "child", "; wait")));
  auto wanted = request("a");
  wanted.timeout = std::chrono::milliseconds(300);
  const auto image = images.ensure(Context::background(), wanted);
  REQUIRE_FALSE(image.has_value());
  CHECK_EQ(image.error().code, Code::kDeadlineExceeded);
  REQUIRE(eventually([&] { return !f.read("term").empty(); }));
  const auto child = std::stoi(f.read("child"));
  CHECK(eventually([&] { return ::kill(child, 0) != 0; }));
}

namespace {

/// A verifier that counts, and says what it is told to say.
struct Asked {
  explicit Asked(std::string id) {
    verifier->id = std::move(id);
    verifier->ask = [this](const Context&, const std::string& reference,
                           const oci::Descriptor& image) -> base::Result<std::string> {
      ++times;
      last = base::str(reference, " ", image.media_type, " ", image.digest.text(), " ", image.size);
      if (refusal) return *refusal;
      return std::string("fine");
    };
  }
  std::atomic<int> times{0};
  std::string last;
  std::optional<base::Error> refusal;
  std::shared_ptr<oci::ImageVerifier> verifier = std::make_shared<oci::ImageVerifier>();
};

/// A helper that asks about `asked_about`, notes the answer, and then has pulled what is in index.new.
std::string asking_helper(const Fixture& f, const std::string& asked_about, const std::string& digest) {
  return base::str("read request; echo '{\"resolved\":{\"reference\":\"", asked_about,
                   "\",\"media_type\":\"t\",\"digest\":\"", digest,
                   "\",\"size\":9}}'; read answer || exit 9; echo $answer > ", f.dir / "answer", "; cp ",
                   f.dir / "data/index.new", " ", f.dir / "data/index.json", "; echo '{\"done\":{\"references\":[\"",
                   asked_about, "\"]}}'");
}

constexpr char kA[] = "docker.io/library/a:latest";

}  // namespace

TEST_CASE("a pull with a verifier: it is asked before the helper goes on, and its word is on record") {
  Fixture f;
  const auto record = tests::add_image(f.store, kA, {"one"});
  const std::string digest = record.manifest_digest.text();
  std::filesystem::rename(f.dir / "data/index.json", f.dir / "data/index.new");
  Asked asked("one");
  auto wanted = request("a");
  wanted.verifier = asked.verifier;
  oci::Images images(f.helper(asking_helper(f, kA, digest)));

  asked.refusal = base::Error::permission_denied("not signed");
  const auto refused = images.ensure(Context::cleanup(), wanted);
  REQUIRE_FALSE(refused.has_value());
  CHECK_EQ(refused.error().code, Code::kPermissionDenied);
  CHECK_EQ(refused.error().message, "not signed");
  CHECK(f.read("answer").empty());

  asked.refusal.reset();
  const auto image = images.ensure(Context::cleanup(), wanted);
  REQUIRE(image.has_value());
  CHECK_EQ(f.read("answer"), "go\n");
  CHECK_EQ(asked.last, base::str(kA, " t ", digest, " 9"));
  REQUIRE(image->verdict.has_value());
  CHECK_EQ(image->verdict->word, "fine");
  CHECK_EQ(image->verdict->verifiers, "one");
  CHECK_GT(image->verdict->at_unix, 1'600'000'000);

  const int before = asked.times;
  CHECK(images.verify(Context::cleanup(), *image, *asked.verifier).has_value());
  CHECK_EQ(asked.times.load(), before);  // its word counts
  Asked others("two");
  CHECK(images.verify(Context::cleanup(), *image, *others.verifier).has_value());
  CHECK_EQ(others.times.load(), 1);  // that of others does not
  CHECK_EQ(images.find("a")->verdict->verifiers, "two");
}

TEST_CASE("an image that is here already is asked about, whoever brought it") {
  Fixture f;
  const auto record = tests::add_image(f.store, kA, {"one"});
  oci::Images images({f.dir / "data", "/nonexistent"});
  const auto image = images.find("a");
  REQUIRE(image.has_value());
  CHECK_FALSE(image->verdict.has_value());
  Asked asked("one");
  asked.refusal = base::Error::permission_denied("no");
  CHECK_EQ(images.verify(Context::cleanup(), *image, *asked.verifier).error().code, Code::kPermissionDenied);
  CHECK_FALSE(images.find("a")->verdict.has_value());
  asked.refusal.reset();
  CHECK_EQ(images.verify(Context::cleanup(), *image, *asked.verifier)->word, "fine");
  CHECK_EQ(asked.last,
           base::str(kA, " ", oci::kOciManifestType, " ", record.manifest_digest.text(), " ", record.manifest_bytes));
  CHECK_EQ(images.list()->front().verdict->word, "fine");

  tests::add_image(f.store, kA, {"two"});  // the name means another image now
  CHECK_FALSE(images.find("a")->verdict.has_value());
  asked.verifier->id = "other";
  CHECK_EQ(images.verify(Context::cleanup(), *image, *asked.verifier).error().code, Code::kAborted);
}

TEST_CASE("a helper that does not ask, or asks about something else, brings nothing in") {
  Fixture f;
  tests::add_image(f.store, kA, {"one"});
  std::filesystem::rename(f.dir / "data/index.json", f.dir / "data/index.new");
  const std::string other = oci::Digest::of_bytes("another").text();
  struct Case {
    std::string script;
    Code code;
  };
  const Case cases[] = {
      {base::str("read request; cp ", f.dir / "data/index.new", " ", f.dir / "data/index.json",
                 "; echo '{\"done\":{}}'"),
       Code::kFailedPrecondition},
      {asking_helper(f, kA, other), Code::kAborted},
      {asking_helper(f, "docker.io/library/b:latest", other), Code::kAborted},
  };
  for (const Case& c : cases) {
    CAPTURE(c.script);
    oci::Images images(f.helper(c.script));
    Asked asked("one");
    auto wanted = request("a");
    wanted.verifier = asked.verifier;
    const auto image = images.pull(Context::cleanup(), wanted);
    REQUIRE_FALSE(image.has_value());
    CHECK_EQ(image.error().code, c.code);
  }
  // One that asks although nobody told it to.
  oci::Images images(f.helper(asking_helper(f, kA, other)));
  CHECK_EQ(images.pull(Context::cleanup(), request("a")).error().code, Code::kInternal);
}
