// clang-format off
#include "cli/containers.h"

#include <doctest/doctest.h>  // after base/result.h: both have a CHECK
// clang-format on
#include <unistd.h>

#include <sstream>

#include "base/file.h"
#include "base/json.h"
#include "cli/cli.h"
#include "cli/documents.h"
#include "driver/life/record.h"
#include "oci/store.h"
#include "tests/temp_dir.h"

namespace {

using cli::Container;

Container task(const std::string& id, const std::string& name, const std::string& container_id) {
  Container container;
  container.task.id.text = id;
  container.task.name = name;
  container.task.attributes["container_id"] = container_id;
  return container;
}

cli::Definition definition(const std::string& name) {
  cli::Definition made;
  made.task_id = "cli/" + name + "/1234";
  made.container_id = driver::container_id_of({made.task_id});
  made.name = name;
  made.args = {"busybox:1", "true"};
  made.cwd = "/";
  made.created_at = driver::WallTime(std::chrono::seconds(1'000'000'000));
  return made;
}

Container own(const std::string& name) {
  Container container;
  container.definition = definition(name);
  container.task.id.text = container.definition->task_id;
  container.task.name = name;
  container.task.attributes["container_id"] = container.definition->container_id;
  return container;
}

bool says(const std::string& text, std::string_view word) {
  return text.find(word) != std::string::npos;
}

}  // namespace

TEST_CASE("whom a person means") {
  const std::vector<Container> all = {task("3f2a-1/web/aa11", "web", "web-0001"),
                                      task("3f2a-1/db/bb22", "db", "db-0002"),
                                      task("9c00-2/web/cc33", "web", "web-0003"),
                                      task("cli/web/dd44", "web", "web-0004"), task("cli/web/ee55", "web", "web-00")};
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"web-0001", "web-0001"},
      {"db", "db-0002"},
      {"9c", "web-0003"},
      {"3f2a-1/db/bb22", "db-0002"},
      {"web-3f2a-1", "web-0001"},
      {"3f/web", "web-0001"},
      {"3f2a-1/db", "db-0002"},
      {"web-00", "web-00"},
      {cli::long_id("db-0002"), "db-0002"},
      {cli::long_id("web-0004").substr(0, 12), "web-0004"},
      {"3f", "may be web-0001, db-0002"},
      {"web", "may be web-0001, web-0003, web-0004, web-00: give more"},
      {"cli", "there is no container cli"},
      {"", "there is no container"},
      {"3f/nosuch", "there is no container"},
      {"cli/web", "there is no container"}};
  for (const auto& [wanted, want] : cases) {
    const std::string& given = wanted;
    CAPTURE(given);
    const auto found = cli::find_container(all, wanted);
    CHECK(says(found ? cli::container_id_of(found->task) : found.error().message, want));
  }
  CHECK(cli::containers_named(all, "3f").size() == 2);
}

TEST_CASE("a name is a container's own, and its beginning nobody's") {
  const std::vector<Container> all = {own("web2"), own("web"), own("deadbeef"), task("we/b/1", "b", "web")};
  const auto found = [&](const std::string& wanted) -> std::string {
    const auto one = cli::find_container(all, wanted);
    return one ? cli::name_of(*one) : one.error().message;
  };
  CHECK(found("web") == "web");  // before a container ID that reads the same
  CHECK(found("web2") == "web2");
  CHECK(found("web2-") == "web2");
  CHECK(found(all[0].definition->container_id) == "web2");
  CHECK(found(cli::long_id(all[1].definition->container_id).substr(0, 9)) == "web");
  CHECK(says(found("dead"), "there is no container dead"));
  CHECK(found("b-we") == "b-we");
}

TEST_CASE("what is known of a container of Nomad's") {
  const tests::TempDir dir;
  driver::PluginOptions options;
  options.data_dir = dir / "data";
  options.state_dir = dir / "state";
  const std::string id = driver::container_id_of({"3f2a-1/web/aa11"});
  Container web = task("3f2a-1/web/aa11", "web", id);
  web.task.state = driver::TaskState::kExited;
  web.task.exit = driver::ExitResult{.exit_code = 137, .signal = 9, .oom_killed = true, .error = ""};
  web.task.attributes.insert({{"label.team", "a"}, {"image", "docker.io/library/redis:7"}, {"privileged", "true"}});
  const std::string bundle = driver::names_of(id, {options.data_dir, options.state_dir}).bundle_dir;
  oci::Store store(options.data_dir);
  const base::Json without = cli::container_document(options, store, web);
  CHECK(without["Path"] == "");
  CHECK(without["Config"]["Env"].empty());
  REQUIRE(base::make_dirs(bundle, 0700));
  for (const char* damaged : {"", "[]", R"({"process": 3})", R"({"process": {"args": 1, "env": [2], "cwd": []}})"}) {
    REQUIRE(base::write_file_atomic(bundle + "/config.json", damaged, 0600, base::Durable::kNo));
    CHECK(cli::container_document(options, store, web) == without);
  }
  REQUIRE(base::write_file_atomic(
      bundle + "/config.json",
      R"({"hostname": "h", "process": {"args": ["redis", "-x"], "env": ["A=b"], "cwd": "/srv"}})", 0600,
      base::Durable::kNo));
  const base::Json document = cli::container_document(options, store, web);
  CHECK(document["Name"] == "web-3f2a-1");
  CHECK(document["Path"] == "redis");
  CHECK(document["Args"] == base::Json({"-x"}));
  CHECK(document["Config"]["Cmd"] == base::Json({"redis", "-x"}));
  CHECK(document["Config"]["Env"] == base::Json({"A=b"}));
  CHECK(document["Config"]["WorkingDir"] == "/srv");
  CHECK(document["Config"]["Hostname"] == "h");
  CHECK(document["Config"]["Labels"] == base::Json{{"team", "a"}});
  CHECK(document["HostConfig"]["Privileged"] == true);
  CHECK(document["State"]["ExitCode"] == 137);
  CHECK(document["State"]["OOMKilled"] == true);
  CHECK(document["State"]["StartedAt"] == "0001-01-01T00:00:00Z");
  CHECK(document["Task"]["id"] == "3f2a-1/web/aa11");
}

TEST_CASE("limits that were changed are those of the next start") {
  const tests::TempDir dir;
  cli::Definition made = definition("one");
  made.args = {"--memory", "64m", "--pids-limit=60", "busybox:1", "--memory", "1g"};
  made.updates = {{"memory", "128m"}, {"cpu-shares", "512"}};
  REQUIRE(cli::write_definition(dir / "data", made));
  const auto read = cli::read_definition(dir / "data", made.container_id);
  REQUIRE_MESSAGE(read.has_value(), read.error().message);
  CHECK(read->updates == made.updates);
  const auto run = cli::run_of(*read);
  REQUIRE_MESSAGE(run.has_value(), run.error().message);
  CHECK(run->spec.resources.memory_bytes == 128 << 20);
  CHECK(run->spec.options.pids_limit == 60);
  CHECK(run->spec.resources.cpu_shares == 512);
  CHECK(run->spec.options.command == "--memory");  // of the container's own program
}

TEST_CASE("what was only created is listed, inspected and removed") {
  if (::geteuid() != 0) return;
  const tests::TempDir dir;
  const std::string data_dir = dir / "data";
  REQUIRE(base::make_dirs(data_dir, 0700));
  REQUIRE(cli::write_definition(data_dir, definition("one")));
  REQUIRE(cli::write_definition(data_dir, definition("two")));
  const auto run = [&](std::vector<std::string> args) {
    args.insert(args.end(), {"--data-dir", data_dir, "--state-dir", dir / "state"});
    std::ostringstream out;
    const int exit_code = cli::main(args, {out, out});
    return std::pair(exit_code, out.str());
  };
  CHECK(run({"inspect", "--format", "{{.Name}} {{.State.Status}} {{.Config.Cmd}} {{.ImageName}} {{.Created}}",
             "one"}) == std::pair(0, std::string("one created [true] busybox:1 2001-09-09T01:46:40Z\n")));
  CHECK(run({"inspect", "--format", "{{.Id}}", "one", "two"}).second ==
        cli::long_id(definition("one").container_id) + "\n" + cli::long_id(definition("two").container_id) + "\n");
  CHECK(run({"inspect", "--format", "{{.Nonsense}}", "one"}).first == 125);
  CHECK(run({"inspect", "--type", "image", "one"}).first == 125);
  CHECK(run({"ps", "-q"}).second.empty());
  CHECK(run({"ps", "-aq", "--no-trunc"}).second ==
        cli::long_id(definition("one").container_id) + "\n" + cli::long_id(definition("two").container_id) + "\n");
  const auto names = [&](std::vector<std::string> filters) {
    filters.insert(filters.begin(), {"ps", "-a", "--format", "{{.Names}}"});
    return run(filters).second;
  };
  CHECK(names({"-f", "name=^t"}) == "two\n");
  CHECK(names({"-f", "name=one", "-f", "name=two"}) == "one\ntwo\n");
  CHECK(names({"-f", "status=exited", "-f", "status=created", "-f", "name=one"}) == "one\n");
  CHECK(names({"-f", "ancestor=busybox", "-n", "1"}) == "two\n");
  CHECK(names({"-f", "ancestor=busybox:2"}).empty());
  CHECK(names({"-f", "label!=x", "-f", "label=x"}).empty());
  CHECK(names({"-f", "task=two"}) == "two\n");
  CHECK(says(names({"-f", "before=nosuch"}), "there is no container nosuch"));
  CHECK(run({"ps", "-a", "--format", "table {{.Names}}\\t{{.Status}} {{upper .State}}", "-l"}).second ==
        "NAMES  STATUS STATE\ntwo    Created CREATED\n");
  CHECK(run({"stop", "one"}) == std::pair(0, std::string("one\n")));
  for (const char* verb : {"kill", "wait"}) CHECK(run({verb, "one"}).first == 125);
  CHECK(run({"exec", "one", "true"}).first == 125);
  CHECK(run({"container", "inspect", "-f", "{{.Name}}", "one"}) == std::pair(0, std::string("one\n")));
  CHECK(run({"container", "ls", "-a", "-q", "-f", "name=one"}).second ==
        cli::long_id(definition("one").container_id).substr(0, 12) + "\n");
  CHECK(run({"image", "inspect", "one"}).first == 125);
  CHECK(run({"image", "ls", "-q"}) == std::pair(0, std::string()));
  CHECK(says(run({"image", "frobnicate"}).second, "unknown command \"image frobnicate\""));
  CHECK(run({"rename", "one", "two"}).first == 125);
  CHECK(run({"rename", "one", "not valid"}).first == 125);
  CHECK(run({"rename", "nosuch", "x"}).first == 125);
  CHECK(run({"rename", "one"}).first == 125);
  CHECK(run({"rename", "two", "three"}) == std::pair(0, std::string()));
  CHECK(names({"-f", "name=e"}) == "one\nthree\n");
  CHECK(says(run({"inspect", "two"}).second, "neither a container nor an image two"));
  CHECK(run({"port", "nosuch"}).first == 125);
  CHECK(run({"port", "one", "80"}).first == 125);
  CHECK(run({"port", "one"}) == std::pair(0, std::string()));
  CHECK(run({"rm", "one", "nosuch"}).first == 1);
  CHECK(run({"rm", "one"}).first == 1);
  CHECK(run({"rm", cli::long_id(definition("two").container_id)}).first == 0);
  CHECK(cli::list_definitions(data_dir)->empty());
}
