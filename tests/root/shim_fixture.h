// One container on a real shim and runtime, in a state directory of its own, and the proof that nothing of it is left.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/context.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/json.h"
#include "base/loop.h"
#include "base/process.h"
#include "base/sync.h"
#include "shim/cgroup.h"
#include "shim/shim.h"  // before doctest, whose CHECK is the one that tests mean

namespace shim_test {

/// Ten seconds: longer than anything takes on a busy machine, short enough for a test that hangs.
inline base::Context soon() {
  return base::Context::background().with_timeout(std::chrono::seconds(20));
}

template <typename T>
T must(base::Result<T> result) {
  if (!result) FAIL(result.error().message);
  return *std::move(result);
}
inline void must(const base::Status& status) {
  if (!status) FAIL(status.error().message);
}

/// Repeats until `condition` holds; false when that takes longer than soon().
template <typename Condition>
bool eventually(const Condition& condition) {
  const base::Context ctx = soon();
  while (!condition()) {
    if (!ctx.sleep(std::chrono::milliseconds(2))) return false;
  }
  return true;
}

/// The reading side that Nomad's log collector is in real life.
class Fifo {
 public:
  explicit Fifo(const std::string& path, bool read_now = true) : path_(path) {
    REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
    if (read_now) open_reader();
  }
  void open_reader() { reader_ = must(base::open_file(path_, O_RDONLY | O_NONBLOCK)); }
  /// Waits for a reader: the shim opens its end of stdin in its own time, and what nobody has open is thrown away.
  base::Fd open_writer() const {
    base::Fd writer;
    REQUIRE(eventually([&] {
      if (auto opened = base::open_file(path_, O_WRONLY | O_NONBLOCK)) writer = *std::move(opened);
      return static_cast<bool>(writer);
    }));
    return writer;
  }
  std::string read_to_end() { return must(base::read_to_end(soon(), reader_.get(), 64u << 20, path_)); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  base::Fd reader_;
};

class Container {
 public:
  explicit Container(const std::string& name = "one") {
    std::string dir = "/tmp/cd-shim.XXXXXX";
    REQUIRE(::mkdtemp(dir.data()) != nullptr);
    state_dir = dir;
    names.container_id = base::str("t", ::getpid(), "-", name);
    names.bundle_dir = base::str(state_dir, "/bundles/", names.container_id);
    names.socket_path = base::str(state_dir, "/s.sock");
    names.cgroup_name = base::str("cd-shim-test-", ::getpid(), "/", names.container_id);
    container_cgroup = base::str("/cd-shim-test-", ::getpid(), "-tasks/", names.container_id);
    options.shim_binary = "/usr/bin/containerd-shim-runc-v2";
    options.runtime_binary = "/usr/sbin/runc";
    options.runtime_root = state_dir + "/runtime";
  }

  /// What is left is undone and complained about.
  ~Container() {
    const auto undone = shim::delete_forced(base::Context::cleanup(), options, names, std::nullopt);
    CHECK_MESSAGE(undone.has_value(), (undone ? "" : undone.error().message));
    shim::remove_cgroup_if_empty(shim::cgroup_parent(container_cgroup));
    CHECK(leftovers() == "");
    must(base::remove_tree(state_dir));
  }

  std::string rootfs() const { return names.bundle_dir + "/rootfs"; }

  /// A root file system of one static busybox, in the bundle itself or bind-mounted.
  void make_rootfs() const {
    must(shim::prepare_bundle(names));
    for (const char* dir : {"bin", "proc", "dev", "sys", "tmp"}) must(base::make_dirs(rootfs() + "/" + dir, 0755));
    std::filesystem::copy_file("/bin/busybox", rootfs() + "/bin/busybox",
                               std::filesystem::copy_options::overwrite_existing);
    for (const char* applet : {"sh", "sleep", "true", "cat", "echo", "dd", "head"}) {
      std::filesystem::create_symlink("busybox", rootfs() + "/bin/" + applet);
    }
  }

  void write_config(const std::vector<std::string>& args) const {
    must(shim::write_bundle(names, base::dump_json(config(args))));
  }

  base::Json config(const std::vector<std::string>& args) const {
    base::Json json;
    json["ociVersion"] = "1.0.2";
    json["process"] = process(args);
    json["root"] = {{"path", rootfs()}, {"readonly", false}};
    json["hostname"] = "test";
    json["mounts"] = {{{"destination", "/proc"}, {"type", "proc"}, {"source", "proc"}}};
    json["linux"]["cgroupsPath"] = container_cgroup;
    json["linux"]["namespaces"] = base::Json::array();
    for (const char* type : {"pid", "mount", "ipc", "uts", "network"}) {
      json["linux"]["namespaces"].push_back({{"type", type}});
    }
    return json;
  }

  static base::Json process(const std::vector<std::string>& args) {
    base::Json json;
    json["terminal"] = false;
    json["user"] = {{"uid", 0}, {"gid", 0}};
    json["args"] = args;
    json["env"] = {"PATH=/bin"};
    json["cwd"] = "/";
    json["noNewPrivileges"] = true;
    return json;
  }

  /// Processes, mounts, cgroups and sockets that name this container; "" when there is none.
  std::string leftovers() const {
    std::string found;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      const std::string pid = entry.path().filename();
      if (!std::all_of(pid.begin(), pid.end(), ::isdigit)) continue;
      const auto cmdline = base::read_file(entry.path() / "cmdline", 1u << 20);
      if (cmdline && cmdline->find(names.container_id) != std::string::npos) found += "process " + pid + "; ";
    }
    std::ifstream mounts("/proc/self/mounts");
    for (std::string line; std::getline(mounts, line);) {
      if (line.find(" " + state_dir) != std::string::npos) found += "mount " + line + "; ";
    }
    for (const auto& hierarchy : shim::cgroup_hierarchies()) {
      for (const std::string& path : {"/" + names.cgroup_name, container_cgroup}) {
        if (std::filesystem::exists(hierarchy.root + path)) found += "cgroup " + hierarchy.root + path + "; ";
      }
    }
    for (const std::string& path : {names.socket_path, names.bundle_dir,
                                    base::str(options.runtime_root, "/", shim::kNamespace, "/", names.container_id)}) {
      if (std::filesystem::exists(path)) found += path + "; ";
    }
    return found;
  }

  std::string state_dir;
  shim::ShimNames names;
  shim::ShimOptions options;
  std::string container_cgroup;
};

/// The callback of Shim::wait, to be waited for.
struct Exited {
  base::OneShot<base::Result<shim::ContainerExit>> shot;
  std::function<void(base::Result<shim::ContainerExit>)> callback() const {
    return [shot = shot](base::Result<shim::ContainerExit> exit) { shot.set(std::move(exit)); };
  }
  base::Result<shim::ContainerExit> wait() const { return must(shot.wait(soon())); }
};

}  // namespace shim_test
