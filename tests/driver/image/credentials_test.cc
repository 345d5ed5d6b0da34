#include "driver/image/credentials.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "base/base64.h"
#include "base/file.h"
#include "base/text.h"
#include "tests/temp_dir.h"

using base::Code;
using driver::RegistryAuth;

namespace {

RegistryAuth login(const std::string& user, const std::string& server = "") {
  RegistryAuth auth;
  auth.username = user;
  auth.password = "pw of " + user;
  auth.server_address = server;
  return auth;
}

std::string user_for(const std::string& host, const RegistryAuth& task, const RegistryAuth& plugin) {
  const auto found = driver::find_credentials(base::Context::cleanup(), host, task, plugin);
  return found ? found->username : "error: " + found.error().message;
}

/// A docker-credential program that writes `answer` and exits with `code`.
std::string helper(const tests::TempDir& dir, const std::string& name, const std::string& body) {
  const std::string path = dir / name;
  std::ofstream(path) << "#!/bin/sh\n" << body << "\n";
  ::chmod(path.c_str(), 0755);
  return path;
}

}  // namespace

TEST_CASE("servers as people and tools write them") {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {"https://index.docker.io/v1/", "docker.io"},
      {"index.docker.io", "docker.io"},
      {"registry-1.docker.io", "docker.io"},
      {"docker.io", "docker.io"},
      {"Registry.Example.com:5000", "registry.example.com:5000"},
      {"http://localhost:5000/v2/", "localhost:5000"},
      {"", ""}};
  for (const auto& c : cases) {
    CAPTURE(c.first);
    CHECK_EQ(driver::registry_host(c.first), c.second);
  }
}

TEST_CASE("the job's come before the node's, each for its server only") {
  CHECK_EQ(user_for("docker.io", {}, {}), "");
  CHECK_EQ(user_for("docker.io", login("job"), login("node")), "job");
  CHECK_EQ(user_for("quay.io", login("job"), login("node")), "job");
  CHECK_EQ(user_for("docker.io", {}, login("node")), "node");
  CHECK_EQ(user_for("docker.io", login("job", "quay.io"), login("node")), "node");
  CHECK_EQ(user_for("quay.io", login("job", "https://quay.io/v1"), login("node")), "job");
  CHECK_EQ(user_for("evil.example", login("job", "quay.io"), login("node", "docker.io")), "");
}

TEST_CASE("the node's go to no registry that only a job has named") {
  CHECK_EQ(user_for("evil.example", {}, login("node")), "");
  CHECK_EQ(user_for("evil.example", {}, login("node", "quay.io")), "");
  CHECK_EQ(user_for("quay.io", {}, login("node", "quay.io")), "node");
  CHECK_EQ(user_for("docker.io", {}, login("node", "quay.io")), "");
  CHECK_EQ(user_for("evil.example", {}, login("node", "*")), "node");

  const auto hint = [](const std::string& host, const RegistryAuth& task, const RegistryAuth& plugin) {
    return driver::explain_unused_credentials(host, task, plugin);
  };
  CHECK(hint("quay.io", {}, login("node")).find("server_address = \"quay.io\"") != std::string::npos);
  CHECK(hint("quay.io", {}, login("node")).find("pw of") == std::string::npos);
  CHECK_EQ(hint("docker.io", {}, login("node")), "");
  CHECK_EQ(hint("quay.io", login("job"), login("node")), "");
  CHECK_EQ(hint("quay.io", {}, login("node", "docker.io")), "");
  CHECK_EQ(hint("quay.io", {}, {}), "");
}

TEST_CASE("Docker's config file") {
  const std::string text = R"({
    "auths": {
      "https://index.docker.io/v1/": {"auth": "aHViOnB3"},
      "registry.example.com:5000": {"username": "plain", "password": "pw"},
      "ghcr.io": {"auth": "eDp5", "identitytoken": "t0k3n"},
      "empty.example": {}
    },
    "credHelpers": {"ecr.example": "ecr-login"}})";
  const auto read = [&](const char* host) { return *driver::read_docker_config(text, host); };
  CHECK_EQ(read("docker.io").credentials.username, "hub");
  CHECK_EQ(read("docker.io").credentials.password, "pw");
  CHECK_EQ(read("registry.example.com:5000").credentials.username, "plain");
  CHECK_EQ(read("ghcr.io").credentials.username, "");
  CHECK_EQ(read("ghcr.io").credentials.password, "t0k3n");
  CHECK(read("empty.example").credentials.empty());
  CHECK(read("other.example").credentials.empty());
  CHECK_EQ(read("ecr.example").helper, "ecr-login");
  CHECK_EQ(read("docker.io").helper, "");
  CHECK_EQ(driver::read_docker_config(R"({"credsStore":"pass"})", "x")->helper, "pass");
  for (const char* bad : {"", "[]", R"({"auths":[]})", R"({"auths":{"docker.io":{"auth":"bm9jb2xvbg=="}}})"}) {
    CAPTURE(bad);
    CHECK_FALSE(driver::read_docker_config(bad, "docker.io").has_value());
  }
}

TEST_CASE("which entry of a config file an image gets") {
  struct Case {
    const char* what;
    const char* auths;  ///< key → user, the password is "pw"
    const char* host;
    const char* repository;
    const char* user;
  };
  const Case cases[] = {
      {"docker login, 27.2 and later",
       "https://index.docker.io/v1/=me https://index.docker.io/v1/access-token=access "
       "https://index.docker.io/v1/refresh-token=refresh",
       "docker.io", "library/redis", "me"},
      {"only its tokens", "https://index.docker.io/v1/access-token=a https://index.docker.io/v1/refresh-token=r",
       "docker.io", "library/redis", ""},
      {"the tokens of another host", "https://h.example/v1/refresh-token=r https://h.example/v1/=me", "h.example", "a",
       "me"},
      {"a repository of that name", "h.example/refresh-token=r h.example=me", "h.example", "refresh-token", "me"},
      {"Hub's own key before its other names", "docker.io=podman https://index.docker.io/v1/=docker", "docker.io",
       "x/y", "docker"},
      {"podman login", "docker.io=podman", "docker.io", "x/y", "podman"},
      {"Hub by other names", "registry-1.docker.io=r", "docker.io", "x/y", "r"},
      {"Hub without a scheme", "index.docker.io/v1/=i", "docker.io", "x/y", "i"},
      {"a namespace of Hub", "docker.io/team=team https://index.docker.io/v1/=me", "docker.io", "team/app", "team"},
      {"the longest path", "h.example/a=a h.example=h h.example/a/b=b", "h.example", "a/b/c", "b"},
      {"the repository itself", "h.example/a/b=b h.example/a=a", "h.example", "a/b", "b"},
      {"a path is of whole names", "h.example/te=te h.example=h", "h.example", "team/app", "h"},
      {"another's namespace", "h.example/other=o h.example=h", "h.example", "team/app", "h"},
      {"nothing but another's", "h.example/other=o", "h.example", "team/app", ""},
      {"a longer path than the repository", "h.example/team/app/x=o", "h.example", "team/app", ""},
      {"a port is part of the host", "h.example=h h.example:5000=p", "h.example:5000", "a", "p"},
      {"and not without it", "h.example:5000=p", "h.example", "a", ""},
      {"exact before a URL", "https://h.example=url h.example=exact", "h.example", "a", "exact"},
      {"https before http", "http://h.example=plain https://h.example/v2/=tls", "h.example", "a", "tls"},
      {"a URL of old", "https://h.example/v1/=old", "h.example", "a", "old"},
      {"a URL with a path of another", "https://h.example/other=o", "h.example", "a", ""},
      {"a URL with a path that fits", "https://h.example/team/=t", "h.example", "team/app", "t"},
      {"upper case in a host", "H.Example=h", "h.example", "a", "h"},
      {"an empty entry does not hide the next", "h.example/team= h.example=h", "h.example", "team/app", "h"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.what);
    std::string auths;
    for (const auto part : base::split(c.auths, ' ')) {
      const std::string key(part.substr(0, part.find('='))), user(part.substr(part.find('=') + 1));
      const std::string auth = base::base64_encode(user + ":pw", base::Base64Padding::kFull);
      auths +=
          base::str(auths.empty() ? "" : ",", "\"", key, "\":", user.empty() ? "{}" : "{\"auth\":\"" + auth + "\"}");
    }
    const auto entry = driver::read_docker_config("{\"auths\":{" + auths + "}}", c.host, c.repository);
    REQUIRE(entry.has_value());
    CHECK_EQ(entry->credentials.username, c.user);
  }
}

TEST_CASE("the secret of an entry, as tools write it") {
  const auto read = [](const std::string& entry) {
    const auto found = driver::read_docker_config(R"({"auths":{"h.example":)" + entry + "}}", "h.example");
    return found ? found->credentials.username + "/" + found->credentials.password : "error: " + found.error().message;
  };
  CHECK_EQ(read(R"({"auth":"bWU6eHh4eHh4\neHh4eHg="})"), "me/xxxxxxxxxxx");
  CHECK_EQ(read(R"({"auth":"bWU6eHh4eHh4\r\neHh4eHg=\n"})"), "me/xxxxxxxxxxx");
  CHECK_EQ(read(R"({"auth":"bWU6YTpi"})"), "me/a:b");
  CHECK_EQ(read(R"({"auth":"bWU6cHcAAA=="})"), "me/pw");
  CHECK_EQ(read(R"({"auth":"bWU6cHc=","username":"old","password":"old"})"), "me/pw");
  CHECK_EQ(read(R"({"auth":"","username":"u","password":"p"})"), "u/p");
  CHECK_EQ(read(R"({"auth":null,"identitytoken":null})"), "/");
  CHECK_EQ(read("null"), "/");
  for (const char* bad : {R"({"auth":"OnMzY3JldA=="})", R"({"auth":"%"})", R"({"auth":"bm9jb2xvbg=="})"}) {
    CAPTURE(bad);
    CHECK_EQ(read(bad), "error: an \"auth\" in it is not the base64 of user:password");
  }
}

TEST_CASE("credential helpers") {
  const tests::TempDir dir;
  RegistryAuth plugin;
  plugin.helper =
      helper(dir, "good", R"(read s; echo "{\"ServerURL\":\"$s\",\"Username\":\"for $s\",\"Secret\":\"x\"}")");
  CHECK_EQ(user_for("quay.io", {}, plugin), "for quay.io");
  CHECK_EQ(user_for("docker.io", {}, plugin), "for https://index.docker.io/v1/");
  plugin.helper = helper(dir, "token", R"(echo '{"Username":"<token>","Secret":"t0k3n"}')");
  const auto token = driver::find_credentials(base::Context::cleanup(), "quay.io", {}, plugin);
  REQUIRE(token.has_value());
  CHECK_EQ(token->username, "");
  CHECK_EQ(token->password, "t0k3n");
  plugin.helper = helper(dir, "none", "echo 'credentials not found in native keychain'; exit 1");
  CHECK_EQ(user_for("quay.io", {}, plugin), "");

  const char* const secret = "s3cret-canary";
  const std::vector<std::pair<const char*, const char*>> bad = {
      {"noise", "echo s3cret-canary"}, {"fails", "echo s3cret-canary; echo s3cret-canary >&2; exit 3"}, {"empty", ":"}};
  for (const auto& c : bad) {
    CAPTURE(c.first);
    plugin.helper = helper(dir, c.first, c.second);
    const auto failed = driver::find_credentials(base::Context::cleanup(), "quay.io", {}, plugin);
    REQUIRE_FALSE(failed.has_value());
    CHECK_EQ(failed.error().code, Code::kFailedPrecondition);
    CHECK(failed.error().message.find(secret) == std::string::npos);
    CHECK(failed.error().message.find(c.first) != std::string::npos);
  }
  // A file may not name a program by its path, only the plugin's own option may.
  for (const std::string& named : {helper(dir, "good", "exit 3"), std::string("../x")}) {
    CAPTURE(named);
    RegistryAuth by_file;
    by_file.config = dir / "config.json";
    REQUIRE(base::write_file_atomic(by_file.config, "{\"credsStore\":\"" + named + "\"}", 0600, base::Durable::kNo)
                .has_value());
    const auto refused = driver::find_credentials(base::Context::cleanup(), "quay.io", {}, by_file);
    REQUIRE_FALSE(refused.has_value());
    CHECK_EQ(refused.error().code, Code::kFailedPrecondition);
    CHECK(refused.error().message.find("which has a slash") != std::string::npos);
  }
  plugin.helper = "no-such-helper";
  CHECK_FALSE(driver::find_credentials(base::Context::cleanup(), "quay.io", {}, plugin).has_value());
}

TEST_CASE("a config file that cannot be used is an error, not anonymous") {
  const tests::TempDir dir;
  RegistryAuth plugin;
  plugin.config = dir / "config.json";
  CHECK(user_for("quay.io", {}, plugin).find("auth.config") != std::string::npos);
  REQUIRE(::mkfifo(plugin.config.c_str(), 0600) == 0);
  CHECK(user_for("quay.io", {}, plugin).find("it is a FIFO, not a file") != std::string::npos);
  REQUIRE(::unlink(plugin.config.c_str()) == 0);
  std::ofstream(plugin.config) << R"({"auths":{"quay.io":{"auth":"cToz"}},"credHelpers":{"ecr.example":"cd-none"}})";
  CHECK_EQ(user_for("quay.io", {}, plugin), "q");
  CHECK(user_for("ecr.example", {}, plugin).find("docker-credential-cd-none was not found") != std::string::npos);
  CHECK_EQ(user_for("docker.io", {}, plugin), "");
}
