#include "driver/image/verifier.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/file.h"
#include "base/process.h"
#include "tests/base/no_threads.h"
#include "tests/temp_dir.h"

using base::Code;
using base::Context;
using base::str;
using driver::find_image_verifier;
using driver::ImageVerifierOptions;

namespace {

constexpr char kName[] = "docker.io/library/redis:7";

/// A folder of verifiers, which are scripts.
class Fixture {
 public:
  Fixture() {
    ::mkdir(folder().c_str(), 0755);
    options.bin_dir = folder();
    options.per_verifier_timeout = std::chrono::seconds(20);
  }
  std::string folder() const { return dir / "bin"; }
  std::string add(const std::string& name, const std::string& script, mode_t mode = 0755) {
    const std::string path = folder() + "/" + name;
    std::ofstream(path) << "#!/bin/sh\n" << script << "\n";
    ::chmod(path.c_str(), mode);
    return path;
  }
  base::Result<std::string> ask(const Context& ctx = Context::cleanup()) const {
    TRY(const auto verifier, find_image_verifier(options));
    REQUIRE(verifier != nullptr);
    return verifier->ask(ctx, kName, image);
  }
  std::string id() const { return (*find_image_verifier(options))->id; }
  std::string read(const std::string& name) const { return base::read_file(dir / name, 1 << 20).value_or(""); }

  tests::TempDir dir;
  ImageVerifierOptions options;
  const oci::Descriptor image{
      "application/vnd.oci.image.index.v1+json", oci::Digest::of_bytes("index"), 1234, {}, false};
};

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a verifier gets name, digest and descriptor, a built environment, and no descriptors of ours") {
  Fixture f;
  ::setenv("SOME_SECRET", "hunter2", 1);
  ::setenv("HTTPS_PROXY", "http://proxy.example:1", 1);
  f.add("10-ok", str("echo \"$@\" > ", f.dir / "argv", "; cat > ", f.dir / "stdin", "; env > ", f.dir / "env",
                     "; ls /proc/self/fd > ", f.dir / "fds", "; pwd > ", f.dir / "cwd", "; echo signed by ci"));
  const auto word = f.ask();
  ::unsetenv("SOME_SECRET");
  ::unsetenv("HTTPS_PROXY");
  REQUIRE(word.has_value());
  CHECK_EQ(*word, "10-ok: signed by ci");
  CHECK_EQ(f.read("argv"), str("-name ", kName, " -digest ", f.image.digest.text(),
                               " -stdin-media-type application/vnd.oci.descriptor.v1+json\n"));
  CHECK_EQ(f.read("stdin"), str(R"({"digest":")", f.image.digest.text(),
                                R"(","mediaType":"application/vnd.oci.image.index.v1+json","size":1234})"));
  CHECK_FALSE(has(f.read("env"), "hunter2"));
  CHECK(has(f.read("env"), "HTTPS_PROXY=http://proxy.example:1"));
  CHECK(has(f.read("env"), "PATH="));
  CHECK_EQ(f.read("fds"), "0\n1\n2\n3\n");  // 3 is ls's own
  CHECK_EQ(f.read("cwd"), "/\n");
}

TEST_CASE("what verifiers do, and what comes of it") {
  struct Case {
    const char* name;
    const char* script;
    Code code;         ///< kOk: it passes
    const char* says;  ///< of the word or the error
    const char* also;
  };
  const Case cases[] = {
      {"passes with a reason", "echo fine", Code::kOk, "20-this: fine", "10-first: passed"},
      {"passes without a word", "exit 0", Code::kOk, "20-this: passed", ""},
      {"refuses", "echo not signed; exit 1", Code::kPermissionDenied, "refused by image verifier 20-this",
       "(exit code 1): not signed"},
      {"refuses in silence", "exit 77", Code::kPermissionDenied, "(exit code 77)", "no reason"},
      {"refuses in several lines", "printf 'one\\n\\ttwo\\001\\n'; exit 1", Code::kPermissionDenied, ": one two",
       kName},
      {"floods both streams", "head -c 5000000 /dev/zero | tr '\\0' x; head -c 5000000 /dev/zero >&2; exit 1",
       Code::kPermissionDenied, "xxx…", ""},
      {"closes its input", "exec <&-; echo fine", Code::kOk, "fine", ""},
      {"dies by a signal", "kill -SEGV $$", Code::kAborted, "20-this was killed by SIGSEGV", kName},
      {"leaves a child with its streams", "sleep 1000 & echo fine", Code::kOk, "fine", ""},
      {"has no interpreter", "", Code::kFailedPrecondition, "20-this cannot be run", ""},
  };
  for (const Case& c : cases) {
    CAPTURE(c.name);
    Fixture f;
    f.add("10-first", "exit 0");
    const std::string path = f.add("20-this", c.script);
    if (c.code == Code::kFailedPrecondition) std::ofstream(path) << "#!/no/such/interpreter\n";
    const auto word = f.ask();
    REQUIRE_EQ(word.has_value(), c.code == Code::kOk);
    if (!word) CHECK_EQ(word.error().code, c.code);
    const std::string said = word ? *word : word.error().message;
    CAPTURE(said);
    CHECK(has(said, c.says));
    CHECK(has(said, c.also));
    CHECK_LT(said.size(), 2000);
  }
}

TEST_CASE("no answer in time: it is killed with its children, and that is worth a retry") {
  Fixture f;
  f.options.per_verifier_timeout = std::chrono::milliseconds(300);
  f.add("10-slow", str("sleep 1000 & echo $! > ", f.dir / "child", "; wait"));
  const auto word = f.ask();
  REQUIRE_FALSE(word.has_value());
  CHECK_EQ(word.error().code, Code::kAborted);
  CHECK(has(word.error().message, "10-slow gave no answer"));
  CHECK(has(word.error().message, "within 300ms"));
  const int child = std::stoi(f.read("child"));
  bool gone = false;
  for (int i = 0; i < 500 && !gone; ++i) {
    // A zombie is gone, too: whoever adopts it may be slow.
    const std::string stat = base::read_file(str("/proc/", child, "/stat"), 4096).value_or(") Z");
    gone = stat.find(") Z") != std::string::npos || stat.find(") X") != std::string::npos;
    if (!gone) [[maybe_unused]]
      const auto slept = Context::background().sleep(std::chrono::milliseconds(10));
  }
  CHECK(gone);
}

TEST_CASE("a start that is given up ends the verifier at once") {
  Fixture f;
  f.add("10-slow", "exec sleep 1000");
  const auto word = f.ask(Context::background().with_timeout(std::chrono::milliseconds(100)));
  REQUIRE_FALSE(word.has_value());
  CHECK_EQ(word.error().code, Code::kDeadlineExceeded);
}

TEST_CASE("all are asked, in the order of their names, until one refuses") {
  Fixture f;
  for (const char* name : {"30-c", "10-a", "20-b"}) f.add(name, str("echo ", name, " >> ", f.dir / "order"));
  CHECK_EQ(*f.ask(), "10-a: passed; 20-b: passed; 30-c: passed");
  CHECK_EQ(f.read("order"), "10-a\n20-b\n30-c\n");
  f.add("20-b", "exit 1");
  CHECK_FALSE(f.ask().has_value());
  CHECK_EQ(f.read("order"), "10-a\n20-b\n30-c\n10-a\n");
}

TEST_CASE("a folder in which something is wrong lets nothing pass") {
  struct Case {
    const char* name;
    void (*spoil)(Fixture&);
    const char* says;
  };
  const Case cases[] = {
      {"missing", [](Fixture& f) { f.options.bin_dir = f.dir / "nosuch"; }, "nosuch"},
      {"empty", [](Fixture& f) { ::unlink((f.folder() + "/10-ok").c_str()); }, "is empty"},
      {"a file", [](Fixture& f) { f.options.bin_dir = f.folder() + "/10-ok"; }, "cannot be listed"},
      {"too many",
       [](Fixture& f) {
         f.options.max_verifiers = 1;
         f.add("20-more", "exit 0");
       },
       "max_verifiers = 1"},
      {"not executable", [](Fixture& f) { f.add("20-text", "exit 0", 0644); }, "20-text is not executable"},
      {"a folder in it", [](Fixture& f) { ::mkdir((f.folder() + "/20-more").c_str(), 0755); }, "20-more is not a file"},
      {"a link to nothing", [](Fixture& f) { CHECK(::symlink("/no/such", (f.folder() + "/20-x").c_str()) == 0); },
       "20-x cannot be used"},
      {"others may write to the folder", [](Fixture& f) { ::chmod(f.folder().c_str(), 0757); }, "written to by others"},
      {"sticky is not enough for it", [](Fixture& f) { ::chmod(f.folder().c_str(), 01777); }, "written to by others"},
      {"others may write to a program", [](Fixture& f) { f.add("10-ok", "exit 0", 0757); }, "10-ok can be written"},
      {"others may write to a folder above", [](Fixture& f) { ::chmod(f.dir.path().c_str(), 0757); },
       "written to by others"},
      {"a link to what others may write to",
       [](Fixture& f) {
         std::ofstream(f.dir / "loose") << "#!/bin/sh\n";
         ::chmod((f.dir / "loose").c_str(), 0777);
         CHECK(::symlink((f.dir / "loose").c_str(), (f.folder() + "/20-x").c_str()) == 0);
       },
       "loose can be written"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.name);
    Fixture f;
    f.add("10-ok", "exit 0");
    REQUIRE(find_image_verifier(f.options).has_value());
    c.spoil(f);
    const auto found = find_image_verifier(f.options);
    REQUIRE_FALSE(found.has_value());
    CHECK_EQ(found.error().code, Code::kFailedPrecondition);
    CAPTURE(found.error().message);
    CHECK(has(found.error().message, c.says));
  }
}

TEST_CASE("somebody else's program is not run") {
  if (::geteuid() != 0) return;
  Fixture f;
  const std::string path = f.add("10-ok", "exit 0");
  REQUIRE(::chown(path.c_str(), 1000, 0) == 0);
  CHECK_FALSE(find_image_verifier(f.options).has_value());
  REQUIRE(::chown(path.c_str(), 0, 1000) == 0);
  CHECK(find_image_verifier(f.options).has_value());  // its group may not write to it
  ::chmod(path.c_str(), 0775);
  CHECK_FALSE(find_image_verifier(f.options).has_value());
}

TEST_CASE("the id is another one when the programs are") {
  Fixture f;
  f.add("10-ok", "exit 0");
  const std::string before = f.id();
  CHECK_EQ(f.id(), before);
  f.add("10-ok", "exit 0 # edited");
  const std::string edited = f.id();
  CHECK_NE(edited, before);
  f.add("20-more", "exit 0");
  CHECK_NE(f.id(), edited);
}

TEST_CASE("without a folder nobody is asked") {
  const auto found = find_image_verifier({});
  REQUIRE(found.has_value());
  CHECK(*found == nullptr);
}

TEST_CASE("one line of what a program wrote") {
  CHECK_EQ(driver::one_line(" a\n\n\tb\x7f\x01 c \n", 100), "a b c");
  CHECK_EQ(driver::one_line("", 100), "");
  CHECK_EQ(driver::one_line("abcdef", 6), "abcdef");
  CHECK_EQ(driver::one_line("abcdefg", 6), "abcdef…");
  CHECK_EQ(driver::one_line("aäöü", 4), "aä…");
}

TEST_CASE("a verifier for which no process can be had has said nothing: worth another try") {
  Fixture f;
  f.add("10-ok", "exit 0");
  const auto verifier = find_image_verifier(f.options);
  REQUIRE(verifier);
  CHECK(tests::without_threads([&] {
    const auto word = (*verifier)->ask(Context::cleanup(), kName, f.image);
    return !word && word.error().code == Code::kResourceExhausted;
  }));
}
