// clang-format off
#include "cli/verb.h"

#include <doctest/doctest.h>  // after base/result.h: both have a CHECK
// clang-format on
#include "cli/cli.h"

#include <unistd.h>

#include <sstream>

#include "base/file.h"
#include "base/json.h"
#include "cli/progress.h"
#include "driver/options/config.h"
#include "tests/temp_dir.h"

namespace {

struct Ran {
  int exit_code;
  std::string out;
  std::string err;
};

Ran run(const std::vector<std::string>& args) {
  std::ostringstream out;
  std::ostringstream err;
  const int exit_code = cli::main(args, {out, err});
  return {exit_code, out.str(), err.str()};
}

bool has(const std::string& text, std::string_view word) {
  return text.find(word) != std::string::npos;
}

}  // namespace

TEST_CASE("without a command: the usage") {
  const Ran bare = run({});
  CHECK(bare.exit_code == 125);
  CHECK(bare.out.empty());
  CHECK(has(bare.err, "usage: containerd-driver"));
  CHECK(std::count(bare.err.begin(), bare.err.end(), '\n') <= 80);
  for (const std::vector<std::string>& asked : {std::vector<std::string>{"help"}, {"--help"}, {"-h"}}) {
    const Ran help = run(asked);
    CHECK(help.exit_code == 0);
    CHECK(help.out == bare.err);
    CHECK(help.err.empty());
  }
  for (const cli::Verb& verb : cli::verbs())
    CHECK_MESSAGE(has(bare.err, base::str("\n  ", verb.name)), std::string(verb.name));
}

TEST_CASE("help of every command, without root") {
  for (const cli::Verb& verb : cli::verbs()) {
    const std::string name(verb.name);
    CAPTURE(name);
    const Ran help = run({"help", name});
    CHECK(help.exit_code == 0);
    CHECK(has(help.out, "usage: containerd-driver " + name));
    CHECK(run({name, "--help"}).out == help.out);
  }
  CHECK(run({"help", "frobnicate"}).exit_code == 125);
}

TEST_CASE("what is made of the table of commands has all of them") {
  tests::TempDir dir;
  CHECK(run({"man", dir.path().string()}).exit_code == 0);
  const std::string bash = run({"completion", "bash"}).out;
  for (const cli::Verb& verb : cli::verbs()) {
    const std::string name(verb.name);
    CAPTURE(name);
    const auto page = base::read_file(dir / base::str("containerd-driver-", verb.name, ".1"), 1u << 20);
    REQUIRE(page.has_value());
    CHECK(has(*page, ".SH NAME"));
    CHECK(has(bash, base::str("\n    ", verb.name, ")\n")));
    for (const std::string_view example : verb.examples) CHECK(has(run({"help", name}).out, std::string(example)));
    for (const auto& flag : cli::flags_of(verb)) CHECK_MESSAGE(has(bash, "--" + flag.name), flag.name);
  }
}

TEST_CASE("an option is explained by its name, or the end of it") {
  const Ran keep = run({"config", "explain", "image_gc.keep"});
  CHECK(keep.exit_code == 0);
  CHECK(has(keep.out, "plugin.image_gc.keep (list(string))"));
  CHECK(run({"config", "explain", "plugin.image_gc.keep"}).out == keep.out);
  const Ran auth = run({"config", "explain", "-o", "json", "auth"});
  CHECK(has(auth.out, "\"plugin.auth\""));
  CHECK(has(auth.out, "\"task.auth\""));
}

TEST_CASE("misuse: one line on stderr, exit code 125") {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"pul"}, "unknown command \"pul\", did you mean pull?"},
      {{"frobnicate"}, "unknown command \"frobnicate\": see containerd-driver help"},
      {{"--data-dri", "/x", "ps"}, "unknown flag --data-dri, did you mean --data-dir?"},
      {{"run", "--hostnmae", "x"}, "unknown flag --hostnmae, did you mean --hostname?"},
      {{"run"}, "name the image"},
      {{"run", "--net", "wibble", "x"}, "--net wibble is not known: use bridge, host, none, cni/NAME or container:ID"},
      {{"run", "-v", "x", "img"}, "--volume x has no target"},
      {{"run", "-v", "data:/data", "img"}, "--volume data:/data names a volume"},
      {{"run", "-v", "/a:b", "img"}, "mounts[0].target"},
      {{"run", "-v", "/a:/b:fast", "img"}, "fast"},
      {{"run", "-e", "=x", "img"}, "--env =x has no name"},
      {{"run", "--hostname", "a b", "img"}, "hostname"},
      {{"pull"}, "name the image"},
      {{"pull", "a", "b"}, "one image at a time"},
      {{"pull", "-o", "yaml", "a"}, "--output yaml is not an output format: use json"},
      {{"images", "--log-level", "loud"}, "--log-level loud is not a log level"},
      {{"rm"}, "name the containers"},
      {{"inspect"}, "name containers or images"},
      {{"inspect", "--type", "pod", "a"}, "--type pod is not known"},
      {{"save"}, "name the images to save"},
      {{"save", "--format", "zip", "a"}, "--format zip is not an archive's format"},
      {{"save", "--format", "oci-dir", "a"}, "name the folder with --output"},
      {{"tag", "a"}, "its new names"},
      {{"untag", "a"}, "which of its names"},
      {{"pin"}, "name the images"},
      {{"history", "a", "b"}, "name one image"},
      {{"completion", "csh"}, "name one shell"},
      {{"config", "explain", "image_gd"}, "did you mean image_gc?"},
      {{"login", "-p", "x", "--password-stdin", "quay.io"}, "not both"},
      {{"login", "-u", "x", "-p", "y", "quay.io/team"}, "is not a registry"},
      {{"schema", "x"}, "unexpected argument \"x\""},
      {{"version", "-o", "xml"}, "--output xml"},
      {{"ps", "-o"}, "flag -o needs a value"},
      {{"ps", "web"}, "unexpected argument \"web\""},
      {{"ps", "-n", "x"}, "--last x is not a number"},
      {{"ps", "--filter", "colour=red"}, "--filter colour=red: colour is not known"},
      {{"ps", "--filter", "nane=x"}, "nane is not known, did you mean name?"},
      {{"ps", "--filter", "name"}, "--filter name has no value"},
      {{"ps", "--filter", "name=("}, "--filter name=(: the expression is not valid"},
      {{"ps", "--filter", "status=dancing"}, "--filter status=dancing: there is no such state"},
      {{"ps", "--filter", "exited=x"}, "an exit code is a number"},
      {{"images", "redis"}, "unexpected argument \"redis\""},
      {{"gc", "redis:7"}, "unexpected argument \"redis:7\""},
      {{"fsck", "redis:7"}, "unexpected argument \"redis:7\""},
      {{"version", "1"}, "unexpected argument \"1\""},
  };
  for (const auto& [args, want] : cases) {
    const auto& shown = want;  // clang 14 cannot capture a binding
    CAPTURE(shown);
    const Ran ran = run(args);
    CHECK(ran.exit_code == 125);
    CHECK(ran.out.empty());
    CHECK(ran.err.starts_with("containerd-driver: "));
    CHECK_MESSAGE(has(ran.err, want), ran.err);
    CHECK(std::count(ran.err.begin(), ran.err.end(), '\n') == 1);
  }
}

TEST_CASE("version and schema need neither root nor a shim") {
  const Ran version = run({"--shim", "/no/such/shim", "version"});
  CHECK(version.exit_code == 0);
  CHECK(version.out.starts_with("containerd-driver "));
  CHECK(has(version.out, "/no/such/shim"));
  const auto json = base::parse_json(run({"version", "-o", "json"}).out, "version");
  REQUIRE(json);
  CHECK((*json)["version"].is_string());
  CHECK(run({"--version"}).exit_code == 0);
  CHECK(run({"schema", "--markdown"}).out == driver::options_markdown());
  const auto schema = base::parse_json(run({"schema"}).out, "schema");
  REQUIRE(schema);
  CHECK(*schema == driver::options_json());
}

TEST_CASE("an empty store and an empty node") {
  const tests::TempDir dir;
  for (const char* verb : {"images", "ps", "gc", "fsck"}) {
    const Ran typo = run({verb, "--data-dir", dir / "dta"});
    CHECK(typo.exit_code == 1);
    CHECK(has(typo.err, "there is no folder " + (dir / "dta")));
  }
  REQUIRE(base::make_dirs(dir / "data", 0700));
  const Ran images = run({"images", "--data-dir", dir / "data"});
  CHECK(images.exit_code == 0);
  CHECK(images.out.starts_with("IMAGE"));
  CHECK(run({"images", "-o", "json", "--data-dir", dir / "data"}).out == "[]\n");
  if (::geteuid() != 0) {
    const Ran ps = run({"ps"});
    CHECK(ps.exit_code == 1);
    CHECK(has(ps.err, "root"));
    return;
  }
  const std::vector<std::string> dirs = {"--data-dir", dir / "data", "--state-dir", dir / "state"};
  const auto with_dirs = [&](std::vector<std::string> args) {
    args.insert(args.end(), dirs.begin(), dirs.end());
    return run(args);
  };
  CHECK(with_dirs({"ps"}).out.starts_with("CONTAINER ID"));
  CHECK(with_dirs({"ps", "-o", "json"}).out == "[]\n");
  const Ran rm = with_dirs({"rm", "nosuch"});
  CHECK(rm.exit_code == 1);
  CHECK(has(rm.err, "there is no container nosuch"));
  const Ran inspect = with_dirs({"inspect", "nosuch"});
  CHECK(inspect.exit_code == 125);
  CHECK(inspect.out == "[]\n");
  CHECK(has(inspect.err, "neither a container nor an image nosuch"));
}

TEST_CASE("folders that no flag names come from the environment") {
  const tests::TempDir dir;
  ::setenv("CONTAINERD_DRIVER_DATA_DIR", (dir / "of-the-environment").c_str(), 1);
  const Ran ran = run({"images"});
  const Ran flag_wins = run({"images", "--data-dir", dir.path()});
  ::unsetenv("CONTAINERD_DRIVER_DATA_DIR");
  CHECK(ran.exit_code == 1);
  CHECK(has(ran.err, dir / "of-the-environment"));
  CHECK(flag_wins.exit_code == 0);
}

TEST_CASE("the progress bar") {
  CHECK(cli::progress_line({}, 0, 80) == "resolving …");
  const oci::PullProgress half{.bytes_done = 5'000'000, .bytes_total = 10'000'000, .layers_done = 1, .layers_total = 3};
  CHECK(cli::progress_line(half, 2'500'000, 80) ==
        "[============>           ] 5.0 MB of 10.0 MB, 1 of 3 layers unpacked, 2.5 MB/s");
  CHECK(cli::progress_line(half, 0, 52) == "[===>   ] 5.0 MB of 10.0 MB, 1 of 3 layers unpacked");
  CHECK(cli::progress_line(half, 0, 46) == "5.0 MB of 10.0 MB, 1 of 3 layers unpacked");
  CHECK(cli::progress_line(half, 0, 20) == "5.0 MB of 10.0 MB, ");
  CHECK(cli::progress_line({.bytes_done = 9, .bytes_total = 3, .layers_done = 3, .layers_total = 3}, 0, 80) ==
        "[========================] 9 B of 3 B, 3 of 3 layers unpacked");
  const oci::Digest digest = oci::Digest::of_bytes("");
  CHECK(cli::layer_line({digest, 5'000'000, 10'000'000}, 80) == "  e3b0c44298fc [========>       ] 5.0 MB of 10.0 MB");
  CHECK(cli::layer_line({digest, 3, 3}, 80) == "  e3b0c44298fc unpacking");
  CHECK(cli::layer_line({digest, 3, 3}, 10) == "  e3b0c44");
}

TEST_CASE("progress: JSON lines to stdout, a bar that is wiped to stderr") {
  std::ostringstream out;
  std::ostringstream err;
  cli::Io io{out, err};
  const oci::PullProgress done{.bytes_done = 3, .bytes_total = 3, .layers_done = 1, .layers_total = 1};
  cli::Progress(io, cli::ProgressStyle::kJsonLines).show(done);
  const auto line = base::parse_json(out.str(), "line");
  REQUIRE(line);
  CHECK((*line)["event"] == "progress");
  CHECK((*line)["bytes_total"] == 3);
  CHECK(out.str().ends_with("\n"));
  CHECK(err.str().empty());
  cli::Progress(io, cli::ProgressStyle::kBar).show(done);
  CHECK(err.str() == "\r\x1b[J[========================] 3 B of 3 B, 1 of 1 layers unpacked\r\x1b[J");
  err.str("");
  {
    oci::PullProgress two = done;
    two.under_way.assign(20, {oci::Digest::of_bytes(""), 1, 4});
    cli::Progress bars(io, cli::ProgressStyle::kBar);
    bars.show(two);
    CHECK(std::ranges::count(err.str(), '\n') == cli::kLayerLinesMax);
    CHECK(err.str().ends_with("\n  e3b0c44298fc [====>           ] 1 B of 4 B"));
    err.str("");
  }
  CHECK(err.str() == "\x1b[8A\r\x1b[J");
  const std::string before = err.str();
  cli::Progress(io, cli::ProgressStyle::kNone).show(done);
  CHECK(err.str() == before);
}
