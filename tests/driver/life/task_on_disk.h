// One task's folder and record in a temporary directory, and a disk that fails.
#pragma once

#include <filesystem>
#include <string>

#include "base/file.h"
#include "base/process.h"
#include "driver/life/task_store.h"
#include "tests/temp_dir.h"

namespace tests {

struct TaskOnDiskFixture {
  TempDir dir;
  driver::Roots roots{dir / "data", dir / "state"};
  driver::Record record = make_record();

  const std::string& id() const { return record.names.container_id; }
  std::string record_file() const { return record.names.task_dir + "/record.json"; }

  void write(const std::string& text) const {
    REQUIRE(base::write_file_atomic(record_file(), text, 0600, base::Durable::kNo).has_value());
  }
  void write_record() const { REQUIRE(driver::TaskStore::write(record).has_value()); }

 private:
  driver::Record make_record() const {
    driver::TaskSpec spec;
    spec.id.text = "a1b2/web/0123abcd";
    driver::Record out;
    out.id = spec.id;
    out.name = "web";
    out.alloc_id = "a1b2";
    out.names = driver::plan_names(spec, roots);
    out.state_dir = roots.state_dir;
    out.shim_binary = "/usr/bin/containerd-shim-runc-v2";
    out.runtime_binary = "/usr/sbin/runc";
    out.boot_id = base::boot_id();
    out.phase = driver::Phase::kRunning;
    out.layer_dirs = {roots.data_dir + "/layers/1"};
    return out;
  }
};

/// Reads that fail with `error`, `times` times; then as usual.
inline driver::TaskStore::ReadFile failing(int error, int times = 1'000'000) {
  return [error, left = std::make_shared<int>(times)](int folder, const std::string& name,
                                                      std::size_t max) -> base::Result<std::string> {
    if ((*left)-- > 0) return base::Error::from_errno(error, name);
    return base::read_file_at(folder, name, max);
  };
}

}  // namespace tests
