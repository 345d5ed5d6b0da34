#include "cli/flags.h"

#include <doctest/doctest.h>

using cli::Flags;
using Strings = std::vector<std::string>;

namespace {

struct Fixture {
  Fixture() {
    flags.toggle("rm", 0, "remove", rm);
    flags.toggle("interactive", 'i', "keep it", interactive);
    flags.value("user", 'u', "USER", "user", user);
    flags.list("env", 'e', "K=V", "environment", env);
  }
  Strings parse(const Strings& args, Flags::Stop stop = Flags::Stop::kNever) const {
    auto rest = flags.parse(args, stop);
    REQUIRE_MESSAGE(rest.has_value(), rest.error().message);
    return *rest;
  }
  std::string error(const Strings& args) const {
    const auto rest = flags.parse(args, Flags::Stop::kNever);
    if (rest) return "";
    CHECK(rest.error().code == base::Code::kInvalidArgument);
    return rest.error().message;
  }
  Flags flags;
  bool rm = false;
  bool interactive = false;
  std::string user;
  Strings env;
};

}  // namespace

TEST_CASE("flags in each form") {
  const Fixture f;
  CHECK(f.parse({"--rm", "a", "-u", "root", "--env=A=1", "b", "-e", "B=2", "--env", "-x"}) == Strings{"a", "b"});
  CHECK(f.rm);
  CHECK(f.user == "root");
  CHECK(f.env == Strings{"A=1", "B=2", "-x"});
  CHECK(f.parse({"--user="}).empty());
  CHECK(f.user.empty());
}

TEST_CASE("letters are bundled as elsewhere, and a switch can be turned off") {
  Fixture f;
  CHECK(f.parse({"-iuroot", "-eA=1", "-e=B=2", "-ie", "C=3", "a"}) == Strings{"a"});
  CHECK(f.interactive);
  CHECK(f.user == "root");
  CHECK(f.env == Strings{"A=1", "B=2", "C=3"});
  CHECK(f.parse({"-i=false", "--rm=true", "-u="}).empty());
  CHECK_FALSE(f.interactive);
  CHECK(f.rm);
  CHECK(f.user.empty());
  CHECK(f.parse({"--rm=0", "-i"}).empty());
  CHECK_FALSE(f.rm);
}

TEST_CASE("what follows -- or the first argument is left alone") {
  const Fixture f;
  CHECK(f.parse({"a", "--", "--rm", "-x"}) == Strings{"a", "--rm", "-x"});
  CHECK(f.parse({"--rm", "image", "--rm", "-x"}, Flags::Stop::kAtFirstArgument) == Strings{"image", "--rm", "-x"});
  CHECK(f.parse({"--", "--rm"}, Flags::Stop::kAtFirstArgument) == Strings{"--rm"});
  CHECK(f.parse({"-"}) == Strings{"-"});
}

TEST_CASE("mistakes name the flag and help on") {
  const Fixture f;
  CHECK(f.error({"--usr", "x"}) == "unknown flag --usr, did you mean --user?");
  CHECK(f.error({"--us=x"}).find("--us,") != std::string::npos);
  CHECK(f.error({"--something-else"}) == "unknown flag --something-else");
  CHECK(f.error({"-x"}) == "unknown flag -x");
  CHECK(f.error({"-xe"}) == "unknown flag -x in -xe");
  CHECK(f.error({"--user"}) == "flag --user needs a value: --user USER");
  CHECK(f.error({"-u"}) == "flag -u needs a value: -u USER");
  CHECK(f.error({"-iu"}) == "flag -u needs a value: -u USER");
  CHECK(f.error({"--rm=yes"}) == "flag --rm: \"yes\" is neither true nor false");
  CHECK(f.error({"-i=maybe"}) == "flag -i: \"maybe\" is neither true nor false");
}

TEST_CASE("help is aligned") {
  CHECK(Fixture().flags.help() ==
        "      --rm           remove\n"
        "  -i, --interactive  keep it\n"
        "  -u, --user USER    user\n"
        "  -e, --env K=V      environment\n");
}

TEST_CASE("the nearest word") {
  const Strings words = {"run", "ps", "pull", "images", "version"};
  CHECK(cli::nearest("rnu", words) == "run");
  CHECK(cli::nearest("pul", words) == "pull");
  CHECK(cli::nearest("image", words) == "images");
  CHECK(cli::nearest("ver", words) == "version");
  CHECK(cli::nearest("frobnicate", words).empty());
  CHECK(cli::nearest("", words).empty());
}
