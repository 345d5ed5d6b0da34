// A running driver::Task without root: its shim is fakes::FakeShim, its container a plain process of this host.
#pragma once

#include <doctest/doctest.h>  // after what defines another CHECK

#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/log.h"
#include "driver/life/task.h"
#include "shim/bundle.h"
#include "tests/fakes/fake_shim.h"
#include "tests/temp_dir.h"

namespace tests {

class RunningTasks {
 public:
  /// `script` is what runs as the container of all tasks of this object. One that makes $ready is waited for.
  explicit RunningTasks(const std::string& script, fakes::FakeShimOptions options = {}) {
    base::set_log(base::LogLevel::kError, base::LogFormat::kHclog);
    record.id = {"a/t/1"};
    record.names.container_id = "t-0123456789abcdef";
    record.names.task_dir = dir / "task";
    record.names.bundle_dir = dir / record.names.container_id;
    record.names.shim_socket = dir / "s.sock";
    record.names.shim_cgroup = "cd-unit-test/t";
    record.names.cgroup_path = "/cd-unit-test/container";
    must(base::make_dirs(record.names.task_dir, 0700));
    const std::string ready = dir / "ready";
    const base::Json config = {{"process", {{"args", {"/bin/sh", "-c", base::str("ready=", ready, "; ", script)}}}}};
    must(shim::write_bundle(record.names.shim(), base::dump_json(config)));
    fake = std::make_unique<fakes::FakeShim>(loop, take(base::listen_unix(record.names.shim_socket, 8)),
                                             record.names.shim_socket, std::move(options));
    shim = take(shim::Shim::adopt(soon(), loop, {}, record.names.shim()));
    record.init = take(base::identify(take(shim->create(soon(), {}))));
    must(shim->start(soon()));
    record.phase = driver::Phase::kRunning;
    const bool waits = script.find("$ready") != std::string::npos;
    while (waits && !std::filesystem::exists(ready)) must(soon().sleep(std::chrono::milliseconds(1)));
  }

  /// One of any number of tasks, which all have the same container.
  std::shared_ptr<driver::Task> task(driver::RecordWriter write = driver::TaskStore::write) {
    auto made = std::make_shared<driver::Task>(loop, background, events, record, shim, std::move(write));
    made->watch_exit();
    return made;
  }

  static base::Context soon() { return base::Context::background().with_timeout(std::chrono::seconds(20)); }
  static void must(const base::Status& status) {
    if (!status) FAIL(status.error().message);
  }
  template <typename T>
  static T take(base::Result<T> result) {
    if (!result) FAIL(result.error().message);
    return *std::move(result);
  }

  TempDir dir;
  base::Loop loop;
  base::Crew background{{.name = "exits", .threads_max = 4, .queue_max = 10'000}};
  base::Hub<driver::TaskEvent> events;
  driver::Record record;
  std::unique_ptr<fakes::FakeShim> fake;
  std::shared_ptr<shim::Shim> shim;
};

}  // namespace tests
