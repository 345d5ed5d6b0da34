// A running container whose record cannot be read: whoever looks at tasks, for whatever reason it fails, nothing of the
// task is lost. Operations times errors, on a real shim and runtime.
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <functional>
#include <vector>

#include "base/crew.h"
#include "driver/driver.h"
#include "driver/life/reaper.h"
#include "driver/life/task_store.h"
#include "driver/life/teardown.h"
#include "oci/fsck.h"
#include "oci/gc.h"
#include "oci/store.h"
#include "tests/failing_call.h"
#include "tests/root/shim_fixture.h"

using base::Code;
using base::Context;
using base::str;
using driver::Driver;
using driver::Record;
using driver::TaskStore;
using shim_test::must;
using shim_test::soon;

namespace {

constexpr std::chrono::seconds kLate{120};  // an uptime at which the reaper takes orphans

/// A task as a start leaves it, of an allocation that is gone, and the one layer that it runs on.
class RunningTask {
 public:
  RunningTask() {
    driver::TaskSpec spec;
    spec.id.text = str("alloc-", ::getpid(), "/web/0123abcd");
    options.data_dir = container.state_dir + "/data";
    options.state_dir = container.state_dir + "/state";
    options.image_helper = "/bin/true";
    record.id = spec.id;
    record.name = "web";
    record.alloc_id = str("alloc-", ::getpid());
    record.alloc_dir = container.state_dir + "/gone";
    record.names = driver::plan_names(spec, {options.data_dir, options.state_dir});
    record.state_dir = options.state_dir;
    record.shim_binary = container.options.shim_binary;
    record.runtime_binary = container.options.runtime_binary;
    record.boot_id = base::boot_id();
    container.names = record.names.shim();
    container.container_cgroup = record.names.cgroup_path;
    container.options = record.shim_options();
    start();
  }
  ~RunningTask() {
    const auto undone = driver::teardown(Context::cleanup(), store(), record);
    CHECK_MESSAGE(undone.has_value(), (undone ? "" : undone.error().message));
  }
  RunningTask(const RunningTask&) = delete;
  RunningTask& operator=(const RunningTask&) = delete;

  TaskStore store() const { return driver::task_store_of(options); }
  std::string record_file() const { return record.names.task_dir + "/record.json"; }
  std::string layer() const { return record.layer_dirs.at(0); }

  /// "" if it runs as before, with its record and its layer; else what is gone.
  std::string lost() const {
    std::string gone;
    if (!base::open_pidfd(record.init)) gone += "process; ";
    if (!base::open_pidfd(record.shim)) gone += "shim; ";
    for (const std::string& path : {record.names.task_dir, record.names.bundle_dir, layer()}) {
      if (!std::filesystem::exists(path)) gone += path + "; ";
    }
    return gone;
  }

  base::Loop loop;
  base::Crew crew{{.name = "test"}};
  shim_test::Container container{"unreadable"};
  driver::PluginOptions options;
  Record record;

 private:
  void start() {
    must(base::make_dirs(record.names.task_dir, 0700));
    must(base::make_dirs(options.state_dir + "/s", 0700));
    must(oci::Store(options.data_dir).create());
    const std::string name = str("layers/", std::string(64, 'a'));
    record.layer_dirs = {str(options.data_dir, "/", name)};
    must(base::make_dirs(record.layer_dirs[0], 0755));
    container.make_rootfs();
    container.write_config({"sleep", "1000"});
    const auto shim = must(shim::Shim::launch(soon(), loop, container.options, container.names));
    must(base::make_dirs(options.state_dir + "/none", 0700));
    record.init = base::identify(must(shim->create(soon(), {"", "/dev/null", "/dev/null", false}))).value();
    must(shim->start(soon()));
    record.shim = shim->process();
    record.phase = driver::Phase::kRunning;
    must(TaskStore::write(record));
  }
};

struct Operation {
  const char* name;
  std::function<void(RunningTask&)> run;
};

/// Everything in the product that looks at tasks on disk and may remove, kill or replace something.
std::vector<Operation> operations() {
  const auto with_driver = [](RunningTask& task, const std::function<void(Driver&)>& use) {
    Driver driver(task.loop, task.crew);
    must(driver.configure(task.options, {}));
    use(driver);
  };
  const auto uses_of = [](RunningTask& task) { return [store = task.store()] { return store.images_in_use(); }; };
  return {
      {"reaper",
       [](RunningTask& task) {
         const TaskStore store = task.store();
         driver::Reaper reaper({[](const driver::TaskId&) { return false; },
                                [&](const Record& record) { return teardown(Context::cleanup(), store, record); }});
         reaper.pass(store, {.uptime = kLate, .dangling_after = kLate});
       }},
      {"collection",
       [=](RunningTask& task) {
         oci::Store images(task.options.data_dir);
         const auto report = oci::Collector(images, uses_of(task)).run(soon(), {});
         CHECK((!report || !report->problems.empty()));
       }},
      {"fsck --repair",
       [=](RunningTask& task) {
         oci::Store images(task.options.data_dir);
         oci::FsckRequest request;
         request.repair = true;
         [[maybe_unused]] const auto report = oci::check_store(soon(), images, request, uses_of(task));
       }},
      {"StartTask again",
       [=](RunningTask& task) {
         with_driver(task, [&](Driver& driver) {
           driver::TaskSpec spec;
           spec.id = task.record.id;
           spec.name = task.record.name;
           spec.alloc_id = task.record.alloc_id;
           spec.options.image = "localhost/none:1";
           spec.stdout_path = spec.stderr_path = "/dev/null";
           CHECK_FALSE(driver.start(soon(), spec).has_value());
         });
       }},
      {"RecoverTask",
       [=](RunningTask& task) {
         with_driver(task,
                     [&](Driver& driver) { CHECK_FALSE(driver.recover(soon(), task.record.id, "{}").has_value()); });
       }},
      {"DestroyTask",
       [=](RunningTask& task) {
         with_driver(task,
                     [&](Driver& driver) { CHECK_FALSE(driver.destroy(soon(), task.record.id, true).has_value()); });
       }},
      {"ps",
       [=](RunningTask& task) {
         with_driver(task, [&](Driver& driver) {
           const auto all = must(driver.list());
           REQUIRE_EQ(all.size(), 1);
           CHECK((all[0].state == driver::TaskState::kUnreadable));
           CHECK_NE(all[0].attributes.at("problem"), "");
         });
       }},
  };
}

}  // namespace

TEST_CASE("a task whose record cannot be read loses nothing: operations times errors of the system") {
  RunningTask task;
  struct Fault {
    const char* call;
    int error;
  };
  for (const Operation& operation : operations()) {
    for (const Fault& fault : {Fault{"open", EMFILE}, Fault{"open", ENOMEM}, Fault{"open", EIO}, Fault{"open", EACCES},
                               Fault{"read", EIO}, Fault{"read", tests::FailingCall::kShortRead}}) {
      CAPTURE(operation.name);
      CAPTURE(fault.call);
      CAPTURE(fault.error);
      {
        const tests::FailingCall failing(fault.call, "/record.json", fault.error);
        operation.run(task);
        CHECK_GT(failing.times(), 0);
      }
      REQUIRE_EQ(task.lost(), "");
    }
  }
}

TEST_CASE("a task whose record cannot be read loses nothing: operations times contents of the file") {
  RunningTask task;
  const std::string good = must(driver::encode_record(task.record));
  base::Json newer = must(base::parse_json(good, "record"));
  newer["version"] = Record::kVersion + 1;
  base::Json foreign = must(base::parse_json(good, "record"));
  foreign["shim_binary"] = task.options.data_dir + "/shim";
  for (const Operation& operation : operations()) {
    for (const std::string& content :
         {std::string(), good.substr(0, good.size() / 2), std::string("not json"), base::dump_json(newer),
          base::dump_json(foreign), std::string(driver::kRecordBytesMax + 1, ' ')}) {
      CAPTURE(operation.name);
      CAPTURE(content.substr(0, 60));
      must(base::write_file_atomic(task.record_file(), content, 0600, base::Durable::kNo));
      operation.run(task);
      REQUIRE_EQ(task.lost(), "");
    }
  }
}

TEST_CASE("only a person removes it") {
  RunningTask task;
  must(base::write_file_atomic(task.record_file(), "not json", 0600, base::Durable::kNo));
  Driver driver(task.loop, task.crew);
  must(driver.configure(task.options, {}));
  CHECK_EQ(driver.remove_unreadable(soon(), "no-such-0123456789abcdef").error().code, Code::kNotFound);
  must(driver.remove_unreadable(Context::cleanup(), task.record.names.container_id));
  // Killed; a zombie until its new parent looks.
  CHECK(shim_test::eventually([&] { return !base::open_pidfd(task.record.init).has_value(); }));
  CHECK_FALSE(std::filesystem::exists(task.record.names.task_dir));
  CHECK(must(driver.list()).empty());
}
