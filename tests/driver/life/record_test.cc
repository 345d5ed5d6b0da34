#include "driver/life/record.h"

#include <doctest/doctest.h>

#include "base/json.h"

using base::Code;
using driver::Record;
using driver::TaskSpec;

namespace {
TaskSpec spec_of(std::string id) {
  TaskSpec spec;
  spec.id.text = std::move(id);
  return spec;
}

Record full_record(const std::string& root) {
  TaskSpec spec = spec_of("a1b2/web/0123abcd");
  Record record;
  record.id = spec.id;
  record.name = "web";
  record.alloc_id = "a1b2";
  record.alloc_dir = "/srv/alloc";
  record.names = driver::plan_names(spec, {root, "/run/cd"});
  record.state_dir = "/run/cd";
  record.shim_binary = "/usr/bin/containerd-shim-runc-v2";
  record.runtime_binary = "/usr/sbin/runc";
  record.boot_id = "boot";
  record.phase = driver::Phase::kExited;
  record.image = {"sha256:ab", "linux/amd64", 77, 1'700'000'000, "10-ci: signed"};
  record.layer_dirs = {"/l/1", "/l/2"};
  record.shim = {42, 4242};
  record.init = {43, 4343};
  record.started_at = driver::WallTime(std::chrono::seconds(1700000000));
  record.exited_at = driver::WallTime(std::chrono::seconds(1700000001));
  record.exit = driver::ExitResult{137, 9, true, "OOM Killed"};
  record.labels = {{"team", "storage"}};
  return record;
}

const driver::Roots kRoots{"/d", "/run/cd"};

base::Json json_of(const Record& record) {
  return base::parse_json(driver::encode_record(record).value(), "record").value();
}

base::Result<Record> decode(const base::Json& json, const Record& like) {
  return driver::decode_record(base::dump_json(json), like.names.container_id, kRoots);
}

base::Result<Record> read_back(const Record& record) {
  return decode(json_of(record), record);
}
}  // namespace

TEST_CASE("container ids are valid for shim, cgroup and file system, whatever the task is called") {
  struct Row {
    const char* id;
    const char* prefix;
  };
  for (const Row& row : {Row{"0f3c/redis-task/12ab34cd", "redis-task-"}, Row{"0f3c/My Task__x/12ab34cd", "my-task-x-"},
                         Row{"0f3c/--/12ab34cd", ""}, Row{"0f3c/\xc3\xa9t\xc3\xa9/1", "t-"},
                         Row{"no slashes", "no-slashes-"}, Row{"a/../../etc/passwd", ""}, Row{"", ""},
                         Row{"a/a-name-that-is-far-too-long-for-a-host-name/1", "a-name-that-is-far-t-"}}) {
    const std::string id = driver::container_id_of({row.id});
    CHECK_MESSAGE(id.starts_with(row.prefix), id);
    CHECK_LE(id.size(), 40);
    CHECK_GE(id.size(), 16);
    CHECK_EQ(id.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-"), std::string::npos);
    CHECK_NE(id.front(), '-');
  }
  CHECK_NE(driver::container_id_of({"a/web/1"}), driver::container_id_of({"a/web/2"}));
  CHECK_EQ(driver::container_id_of({"a/web/1"}), driver::container_id_of({"a/web/1"}));
}

TEST_CASE("names fit the limits of sockets and lie below the two roots") {
  const auto names = driver::plan_names(spec_of("0f3c/redis-task/12ab34cd"), {"/var/lib/x", "/run/x"});
  CHECK_EQ(names.task_dir, "/var/lib/x/tasks/" + names.container_id);
  CHECK_EQ(names.rootfs_dir, "/run/x/bundles/" + names.container_id + "/rootfs");
  CHECK_LE(names.shim_socket.size(), 106);
  CHECK_EQ(names.cgroup_path, "/containerd-driver/containers/" + names.container_id);
}

TEST_CASE("the container's cgroup is the one that the agent polices") {
  TaskSpec spec = spec_of("a1/web/1");
  spec.alloc_id = "a1";
  spec.name = "web";
  const auto path = [&](const char* sent) {
    spec.resources.cpuset_cgroup = sent;
    return driver::plan_names(spec, {"/d", "/s"}).cgroup_path;
  };
  CHECK_EQ(path("/sys/fs/cgroup/cpuset/nomad/share"), "/nomad/a1.web");
  CHECK_EQ(path("/sys/fs/cgroup/cpuset/nomad/reserve/a1.web"), "/nomad/a1.web");
  CHECK_EQ(path("/sys/fs/cgroup/nomad.slice/share.slice/a1.web.scope"), "/nomad.slice/share.slice/a1.web.scope");
  CHECK_EQ(path("/sys/fs/cgroup/nomad.slice/a1.web.scope"), "/nomad.slice/a1.web.scope");
  CHECK(path("/etc").starts_with("/containerd-driver/containers/"));
  CHECK(path("").starts_with("/containerd-driver/containers/"));
}

TEST_CASE("a record comes back as it was written") {
  const Record record = full_record("/d");
  const auto back = read_back(record);
  REQUIRE(back.has_value());
  CHECK_EQ(back->id.text, record.id.text);
  CHECK_EQ(back->names.shim_socket, record.names.shim_socket);
  CHECK_EQ(back->names.cgroup_path, record.names.cgroup_path);
  CHECK(back->phase == driver::Phase::kExited);
  CHECK_EQ(back->layer_dirs.size(), 2);
  CHECK(back->init == record.init);
  CHECK(back->exited_at == record.exited_at);
  REQUIRE(back->exit.has_value());
  CHECK_EQ(back->exit->signal, 9);
  CHECK(back->exit->oom_killed);
  CHECK(back->labels == record.labels);
  CHECK_EQ(back->image.resolved_digest, "sha256:ab");
  CHECK_EQ(back->image.platform, "linux/amd64");
  CHECK_EQ(back->image.size_bytes, 77);
  CHECK_EQ(back->image.pulled_at_unix, 1'700'000'000);
  CHECK_EQ(back->image.verified, "10-ci: signed");
  CHECK_EQ(back->shim_options().runtime_root, "/run/cd/runtime");
  CHECK_EQ(back->shim_options().events_socket, "/run/cd/events");
}

TEST_CASE("a record of version 1, and of the builds before it had labels and the image's origin") {
  const Record record = full_record("/d");
  base::Json json = json_of(record);
  json["version"] = 1;
  json.erase("cgroup_path");
  json.erase("state_dir");
  json.erase("image");
  json.erase("labels");
  json["runtime_root"] = "/run/cd/runtime";
  json["names"] = {{"container_id", "x"},
                   {"bundle_dir", "/run/cd/bundles/" + record.names.container_id},
                   {"cgroup_path", "/nomad/a1b2.web"},
                   {"task_dir", "/etc"},
                   {"shim_socket", "/run/docker.sock"}};
  const auto back = decode(json, record);
  REQUIRE_MESSAGE(back.has_value(), back.error().message);
  CHECK_EQ(back->state_dir, "/run/cd");
  CHECK_EQ(back->names.cgroup_path, "/nomad/a1b2.web");
  CHECK_EQ(back->names.task_dir, record.names.task_dir);
  CHECK_EQ(back->names.shim_socket, record.names.shim_socket);
  CHECK(back->labels.empty());
  CHECK(back->image.resolved_digest.empty());
  CHECK_EQ(back->layer_dirs, record.layer_dirs);
  json["names"]["bundle_dir"] = "/srv/elsewhere/" + record.names.container_id;
  CHECK_EQ(decode(json, record).error().code, Code::kDataLoss);
}

TEST_CASE("damaged records and those of newer versions are refused") {
  const Record record = full_record("/d");
  const std::string good = driver::encode_record(record).value();
  for (std::size_t cut = 0; cut < good.size(); cut += 7) {
    CHECK_EQ(driver::decode_record(good.substr(0, cut), record.names.container_id, kRoots).error().code,
             Code::kDataLoss);
  }
  const auto with = [&](const char* key, base::Json value) {
    base::Json json = json_of(record);
    json[key] = std::move(value);
    return decode(json, record).error().code;
  };
  CHECK_EQ(with("version", Record::kVersion + 1), Code::kFailedPrecondition);
  CHECK_EQ(with("labels", {{"team", 1}}), Code::kDataLoss);
  CHECK_EQ(with("phase", "dreaming"), Code::kDataLoss);
  CHECK_EQ(with("id", nullptr), Code::kDataLoss);
}

TEST_CASE("no name, program or control group is believed because a file has it") {
  const Record record = full_record("/d");
  const auto code_with = [&](const char* key, const char* value) {
    base::Json json = json_of(record);
    json[key] = value;
    const auto back = decode(json, record);
    return back ? Code::kOk : back.error().code;
  };
  CHECK_EQ(code_with("id", "another/task/1"), Code::kDataLoss);
  CHECK_EQ(code_with("shim_binary", "shim"), Code::kDataLoss);
  CHECK_EQ(code_with("runtime_binary", "/usr/sbin/../../tmp/runc"), Code::kDataLoss);
  CHECK_EQ(code_with("state_dir", "run"), Code::kDataLoss);
  CHECK_EQ(code_with("state_dir", "/run/../etc"), Code::kDataLoss);
  CHECK_EQ(code_with("cgroup_path", "/nomad/a1b2.web"), Code::kOk);
  CHECK_EQ(code_with("cgroup_path", "/nomad.slice/share.slice/a1b2.web.scope"), Code::kOk);
  for (const char* path : {"/", "", "/system.slice", "/nomad", "/nomad/a1b2.db", "/nomad/a1b2.web/..",
                           "/x/../a1b2.web.scope", "/nomad.slice/b.web.scope", "/containerd-driver/containers/other"}) {
    CHECK_EQ(code_with("cgroup_path", path), Code::kDataLoss);
  }
}

TEST_CASE("what is too large to be read is not written") {
  Record record = full_record("/d");
  record.labels["big"] = std::string(driver::kRecordBytesMax, 'x');
  const auto text = driver::encode_record(record);
  REQUIRE_FALSE(text.has_value());
  CHECK_EQ(text.error().code, Code::kInvalidArgument);
  CHECK_NE(text.error().message.find("labels"), std::string::npos);
}
