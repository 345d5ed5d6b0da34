// What a start through the shim costs beside `runc create` + `runc start` of the same bundle, alternating in one run.
// Usage: shim_bench [rounds]. Needs root. Milliseconds, medians.
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/sync.h"
#include "shim/cgroup.h"
#include "shim/shim.h"

namespace {

using base::Context;

constexpr char kRuntime[] = "/usr/sbin/runc";

template <typename T>
T must(base::Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "%s\n", result.error().message.c_str());
    std::exit(1);
  }
  return *std::move(result);
}
void must(const base::Status& status) {
  if (status) return;
  std::fprintf(stderr, "%s\n", status.error().message.c_str());
  std::exit(1);
}

class Table {
 public:
  void lap(const std::string& step) {
    const auto now = base::Clock::now();
    add(step, std::chrono::duration<double, std::milli>(now - last_).count());
    last_ = now;
  }
  void restart() { last_ = base::Clock::now(); }
  void add(const std::string& step, double millis) {
    if (!samples_.contains(step)) order_.push_back(step);
    samples_[step].push_back(millis);
  }
  double median(const std::string& step) {
    auto& values = samples_[step];
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
  }
  void print() {
    for (const std::string& step : order_) {
      const double middle = median(step);
      const auto& values = samples_[step];
      std::printf("%-44s %8.2f   (%.2f .. %.2f)\n", step.c_str(), middle, values.front(),
                  values[values.size() * 9 / 10]);
    }
  }

 private:
  base::Deadline last_ = base::Clock::now();
  std::vector<std::string> order_;
  std::map<std::string, std::vector<double>> samples_;
};

std::string config(const std::string& rootfs, const std::string& cgroup) {
  base::Json json;
  json["ociVersion"] = "1.0.2";
  json["process"] = {{"args", {"/bin/busybox", "sleep", "1000"}},
                     {"cwd", "/"},
                     {"env", {"PATH=/bin"}},
                     {"user", {{"uid", 0}, {"gid", 0}}}};
  json["root"] = {{"path", rootfs}};
  json["mounts"] = {{{"destination", "/proc"}, {"type", "proc"}, {"source", "proc"}}};
  json["linux"]["cgroupsPath"] = cgroup;
  for (const char* type : {"pid", "mount", "ipc", "uts", "network"}) {
    json["linux"]["namespaces"].push_back({{"type", type}});
  }
  return base::dump_json(json);
}

void make_rootfs(const shim::ShimNames& names) {
  const std::string rootfs = names.bundle_dir + "/rootfs";
  must(base::make_dirs(rootfs + "/bin", 0755));
  must(base::make_dirs(rootfs + "/proc", 0755));
  std::filesystem::copy_file("/bin/busybox", rootfs + "/bin/busybox");
}

long rss_kib(pid_t pid) {
  const std::string status = must(base::read_file(base::str("/proc/", pid, "/status"), 64u << 10));
  return std::strtol(status.c_str() + status.find("VmRSS:") + 6, nullptr, 10);
}

void shim_round(base::Loop& loop, const shim::ShimOptions& options, const shim::ShimNames& names, Table& table) {
  const auto ctx = Context::background().with_timeout(std::chrono::seconds(30));
  must(shim::prepare_bundle(names));
  make_rootfs(names);
  must(shim::write_bundle(names, config(names.bundle_dir + "/rootfs", "/cd-bench/" + names.container_id)));
  const auto begin = base::Clock::now();
  table.restart();
  const auto shim = must(shim::Shim::spawn(loop, options, names));
  table.lap("spawn");
  must(shim->ready(ctx));
  table.lap("ready");
  const pid_t pid = must(shim->create(ctx, {}));
  table.lap("create");
  base::OneShot<bool> exited;
  shim->wait("", [exited](const base::Result<shim::ContainerExit>&) { exited.set(true); });
  must(shim->start(ctx));
  table.lap("start");
  table.add("= shim total", std::chrono::duration<double, std::milli>(base::Clock::now() - begin).count());
  table.add("shim RSS, MiB", static_cast<double>(rss_kib(shim->process().pid)) / 1024);
  const base::Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  table.restart();
  must(base::send_signal(pidfd.get(), SIGKILL));
  must(exited.wait(ctx));
  table.lap("kill by pidfd to wait's callback");
  must(shim->remove(ctx, ""));
  table.lap("remove");
  must(shim->shutdown(ctx));
  table.lap("shutdown, process gone, cgroup removed");
  must(shim::remove_bundle(names));
  table.restart();
  must(shim::delete_forced(ctx, options, names, std::nullopt));
  table.lap("delete_forced of nothing");
}

void runtime_call(const std::vector<std::string>& args) {
  base::SpawnOptions program;
  program.argv = args;
  program.argv.insert(program.argv.begin(), kRuntime);
  program.env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
  // No pipes: what `create` leaves running would hold them.
  auto process = must(base::Process::spawn(program));
  const auto exit = must(process.wait(Context::background().with_timeout(std::chrono::seconds(30))));
  if (!exit.success()) must(base::Status(base::Error::unknown("runc failed")));
}

void runtime_round(const shim::ShimOptions& options, const shim::ShimNames& names, Table& table) {
  must(shim::prepare_bundle(names));
  make_rootfs(names);
  must(shim::write_bundle(names, config(names.bundle_dir + "/rootfs", "/cd-bench/" + names.container_id)));
  const std::string root = options.runtime_root + "/cli";
  const auto begin = base::Clock::now();
  table.restart();
  runtime_call({"--root", root, "create", "--bundle", names.bundle_dir, names.container_id});
  table.lap("runc create");
  runtime_call({"--root", root, "start", names.container_id});
  table.lap("runc start");
  table.add("= runc total", std::chrono::duration<double, std::milli>(base::Clock::now() - begin).count());
  table.restart();
  runtime_call({"--root", root, "kill", names.container_id, "KILL"});
  table.lap("runc kill");
  runtime_call({"--root", root, "delete", "--force", names.container_id});
  table.lap("runc delete --force");
  must(shim::remove_bundle(names));
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 30;
  std::string dir = "/tmp/cd-bench.XXXXXX";
  if (::mkdtemp(dir.data()) == nullptr) return 1;
  base::Loop loop;
  shim::ShimOptions options;
  options.shim_binary = "/usr/bin/containerd-shim-runc-v2";
  options.runtime_binary = kRuntime;
  options.runtime_root = dir + "/runtime";
  Table table;
  for (int i = 0; i < rounds; ++i) {
    shim::ShimNames names;
    names.container_id = base::str("b", ::getpid(), "-", i);
    names.bundle_dir = base::str(dir, "/bundles/", names.container_id);
    names.socket_path = dir + "/s.sock";
    names.cgroup_name = "cd-bench-shims/" + names.container_id;
    shim_round(loop, options, names, table);
    runtime_round(options, names, table);
  }
  table.print();
  std::printf("%-44s %8.2f x\n", "shim total / runc total",
              table.median("= shim total") / table.median("= runc total"));
  shim::remove_cgroup_if_empty("/cd-bench");
  must(base::remove_tree(dir));
  return 0;
}
