#include "cli/doctor/gather.h"

#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <charconv>
#include <filesystem>
#include <functional>
#include <sstream>
#include <thread>

#include "base/dir.h"
#include "base/file.h"
#include "base/process.h"
#include "base/text.h"
#include "base/thread.h"
#include "driver/files/named_file.h"
#include "driver/host/programs.h"
#include "driver/life/task_store.h"
#include "driver/net/bridge_rules.h"
#include "oci/images.h"

namespace cli {

using base::Context;
using base::Result;
using base::str;
using driver::PluginOptions;

namespace {

constexpr std::size_t kFileBytesMax = 1u << 20;
constexpr std::size_t kHostsFilesMax = 1000;
constexpr char kCgroups[] = "/sys/fs/cgroup/";
constexpr char kAgentUnit[] = "nomad.service";

std::string first_line(const std::string& path);
bool exists(const std::string& path);
void look_at_kernel(NodeFacts& facts);
void look_at_cgroups(NodeFacts& facts);
void look_at_network(const PluginOptions& options, NodeFacts& facts);
ProgramFact look_at_program(const Context& ctx, std::string what, std::string option, const Result<std::string>& found,
                            const char* version_flag);
std::string version_of(const Context& ctx, const char* flag, ProgramFact& fact);
void look_at_disk(const PluginOptions& options, NodeFacts& facts);
void look_at_store(const PluginOptions& options, NodeFacts& facts);
void look_at_hosts(const PluginOptions& options, NodeFacts& facts);
void look_at_unit(const Context& ctx, NodeFacts& facts);
void look_at_tasks(const PluginOptions& options, NodeFacts& facts);
void look_for_leftovers(const std::set<std::string>& tasks, const PluginOptions& options, NodeFacts& facts);

}  // namespace

NodeFacts gather_facts(const Context& ctx, const PluginOptions& options) {
  NodeFacts facts;
  facts.is_root = ::geteuid() == 0;
  facts.data_dir = options.data_dir;
  look_at_kernel(facts);
  look_at_cgroups(facts);
  // Programs of others may hang: all at once, or the second would find no time left.
  facts.programs.resize(3);
  std::vector<std::function<void()>> jobs = {
      [&] {
        const auto found = driver::find_program(options.shim, "shim");
        facts.programs[0] = look_at_program(ctx, "shim", "shim", found, "-v");
      },
      [&] {
        const auto found = driver::find_program(options.runtime_binary, "runtime_binary");
        facts.programs[1] = look_at_program(ctx, "runtime", "runtime_binary", found, "--version");
      },
      [&] { look_at_unit(ctx, facts); },
  };
  std::vector<std::jthread> threads;
  for (const auto& job : jobs) {
    auto thread = base::start_thread("doctor", job);
    if (!thread) {
      job();
    } else {
      threads.push_back(*std::move(thread));
    }
  }
  facts.programs[2] =
      look_at_program(ctx, "image helper", "image_helper", driver::find_image_helper(options.image_helper), nullptr);
  look_at_network(options, facts);
  look_at_disk(options, facts);
  look_at_store(options, facts);
  look_at_hosts(options, facts);
  look_at_tasks(options, facts);
  threads.clear();  // all have written their facts
  return facts;
}

namespace {

std::string first_line(const std::string& path) {
  const auto text = base::read_file(path, kFileBytesMax);
  return text ? text->substr(0, text->find('\n')) : "";
}

bool exists(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0;
}

std::optional<std::int64_t> number_in(const std::string& path) {
  const std::string text = first_line(path);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return std::nullopt;
  return value;
}

void look_at_kernel(NodeFacts& facts) {
  utsname name = {};
  if (::uname(&name) == 0) facts.kernel = static_cast<const char*>(name.release);
  if (const auto text = base::read_file("/proc/filesystems", kFileBytesMax)) {
    facts.overlay = text->find("\toverlay\n") != std::string::npos;
  }
  const std::string module = str("/lib/modules/", facts.kernel, "/kernel/fs/overlayfs/overlay.ko");
  for (const char* packed : {"", ".xz", ".zst", ".gz"}) {
    facts.overlay_module = facts.overlay_module || exists(module + packed);
  }
  facts.overlay_module = facts.overlay_module && number_in("/proc/sys/kernel/modules_disabled") != 1;
  facts.user_namespaces_max = number_in("/proc/sys/user/max_user_namespaces");
  facts.seccomp = exists("/proc/sys/kernel/seccomp/actions_avail");
  facts.apparmor = first_line("/sys/module/apparmor/parameters/enabled") == "Y";
  facts.apparmor_parser = driver::find_program("apparmor_parser", "").has_value();
}

// v2 lists its controllers in a file; those of v1 are folders.
void look_at_cgroups(NodeFacts& facts) {
  const std::string root = kCgroups;
  const bool v2 = exists(root + "cgroup.controllers");
  const bool beside = exists(root + "unified/cgroup.controllers");
  std::istringstream words(first_line(root + (v2 ? "cgroup.controllers" : "unified/cgroup.controllers")));
  for (std::string word; words >> word;) facts.controllers.insert(word);
  bool v1 = false;
  for (const char* controller : {"cpu", "memory", "pids", "cpuset"}) {
    if (v2 || !exists(str(root, controller, "/cgroup.procs"))) continue;
    facts.controllers.insert(controller);
    v1 = true;
  }
  facts.cgroup_mode = v2 ? "v2" : v1 && beside ? "hybrid" : v1 ? "v1" : "";
}

ProgramFact look_at_program(const Context& ctx, std::string what, std::string option, const Result<std::string>& found,
                            const char* version_flag) {
  ProgramFact fact;
  fact.what = std::move(what);
  fact.option = std::move(option);
  if (!found) {
    fact.problem = found.error().message;
    return fact;
  }
  fact.path = *found;
  struct stat info {};
  if (::stat(fact.path.c_str(), &info) != 0) {
    fact.problem = base::Error::from_errno(errno, fact.path).message;
    return fact;
  }
  std::ostringstream mode;
  mode << info.st_uid << ':' << info.st_gid << ' ' << std::oct << (info.st_mode & 07777);
  fact.owner_and_mode = mode.str();
  const auto writable = driver::writable_by_others(fact.path);
  if (!writable) {
    fact.problem = writable.error().message;
  } else {
    fact.writable_by_others = *writable;
  }
  // What others can change is not run.
  if (version_flag != nullptr && fact.problem.empty() && fact.writable_by_others.empty()) {
    fact.version = version_of(ctx, version_flag, fact);
  }
  return fact;
}

std::string version_of(const Context& ctx, const char* flag, ProgramFact& fact) {
  base::SpawnOptions spawn;
  spawn.argv = {fact.path, flag};
  spawn.new_process_group = true;
  const auto ran = base::run(ctx, std::move(spawn), "", kFileBytesMax);
  if (!ran) {
    fact.problem = ran.error().message;
    fact.is_slow = ran.error().code == base::Code::kDeadlineExceeded;
    return "";
  }
  if (!ran->exit.success()) {
    fact.problem = str(flag, " fails with exit code ", ran->exit.exit_code);
    return "";
  }
  // "runc version 1.1.5"; the shim writes "  Version:  1.6.20" in its second line.
  std::string first;
  for (const std::string_view line : base::split(ran->stdout_text, '\n')) {
    const std::size_t at = line.find("Version:");
    if (at != std::string_view::npos) {
      const std::string_view rest = line.substr(at + 8);
      return std::string(rest.substr(std::min(rest.find_first_not_of(' '), rest.size())));
    }
    if (first.empty()) first = line;
  }
  return first;
}

void look_at_network(const PluginOptions& options, NodeFacts& facts) {
  facts.cni_path = options.cni_path;
  for (const char* plugin : {"bridge", "host-local", "portmap", "firewall", "loopback"}) {
    bool found = false;
    for (const std::string_view folder : base::split(options.cni_path, ':')) {
      found = found || ::access(str(folder, "/", plugin).c_str(), X_OK) == 0;
    }
    if (!found) facts.cni_missing.emplace_back(plugin);
  }
  facts.iptables = driver::host_has_iptables();
  if (const auto forward = number_in("/proc/sys/net/ipv4/ip_forward")) facts.ip_forward = *forward != 0;
  facts.bridge_netfilter = exists("/proc/sys/net/bridge/bridge-nf-call-iptables");
}

void look_at_disk(const PluginOptions& options, NodeFacts& facts) {
  std::filesystem::path there = options.data_dir;
  while (!exists(there) && there.has_relative_path()) there = there.parent_path();
  const auto disk = oci::measure_disk(there);
  if (disk) {
    facts.disk = *disk;
  } else {
    facts.disk_problem = disk.error().message;
  }
}

void look_at_store(const PluginOptions& options, NodeFacts& facts) {
  oci::Images images({.data_dir = options.data_dir, .helper = ""});
  const auto all = images.list();
  if (!all) {
    facts.store_problem = all.error().message;
    return;
  }
  facts.images = all->size();
  for (const oci::ImageSummary& image : *all) {
    if (!image.problem.empty()) facts.damaged_images.push_back(str(image.reference, ": ", image.problem));
  }
}

// What is in them is understood by the image helper, which says so at a pull.
void look_at_hosts(const PluginOptions& options, NodeFacts& facts) {
  std::size_t files = 0;
  for (const std::string_view folder : base::split(options.hosts_dir, ':')) {
    const auto hosts = base::list_dir(std::string(folder));
    if (!hosts) {
      if (hosts.error().code != base::Code::kNotFound) facts.hosts_problems.push_back(hosts.error().message);
      continue;
    }
    for (const std::string& host : *hosts) {
      const std::string path = str(folder, "/", host, "/hosts.toml");
      if (!exists(path) || ++files > kHostsFilesMax) continue;
      const auto text = driver::read_named_file(path, kFileBytesMax);
      if (!text) facts.hosts_problems.push_back(str(path, ": ", text.error().message));
    }
  }
}

void look_at_unit(const Context& ctx, NodeFacts& facts) {
  if (!exists("/run/systemd/system")) return;
  const auto systemctl = driver::find_program("systemctl", "");
  if (!systemctl) return;
  base::SpawnOptions spawn;
  spawn.argv = {*systemctl, "show", kAgentUnit, "--property=LoadState,KillMode,Delegate,TasksMax"};
  spawn.new_process_group = true;
  const auto ran = base::run(ctx, std::move(spawn), "", kFileBytesMax);
  if (!ran || !ran->exit.success()) return;
  UnitFact unit{kAgentUnit, "", "", ""};
  bool loaded = false;
  for (const std::string_view line : base::split(ran->stdout_text, '\n')) {
    const std::size_t equals = line.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string_view key = line.substr(0, equals);
    const std::string value(line.substr(equals + 1));
    if (key == "LoadState") loaded = value == "loaded";
    if (key == "KillMode") unit.kill_mode = value;
    if (key == "Delegate") unit.delegate = value;
    if (key == "TasksMax") unit.tasks_max = value;
  }
  if (loaded) facts.unit = std::move(unit);
}

void look_at_tasks(const PluginOptions& options, NodeFacts& facts) {
  const auto tasks = driver::task_store_of(options).list();
  if (!tasks) {
    facts.tasks_problem = tasks.error().message;
    return;
  }
  std::set<std::string> ids;
  for (const driver::TaskFolder& folder : *tasks) {
    ids.insert(folder.container_id);
    if (const auto* unreadable = std::get_if<driver::Unreadable>(&folder.task)) {
      facts.unreadable_records.push_back(unreadable->why.message);
    }
  }
  look_for_leftovers(ids, options, facts);
}

// Bundles whose task has no folder any more, and trash that nobody has emptied.
void look_for_leftovers(const std::set<std::string>& tasks, const PluginOptions& options, NodeFacts& facts) {
  const auto add = [&](const std::string& folder, const auto& is_left) {
    const auto names = base::list_dir(folder);
    if (!names) {
      if (names.error().code != base::Code::kNotFound) facts.leftovers_problem = names.error().message;
      return;
    }
    for (const std::string& name : *names) {
      if (is_left(name)) facts.leftovers.push_back(str(folder, "/", name));
    }
  };
  add(str(options.state_dir, "/bundles"), [&](const std::string& name) { return !tasks.contains(name); });
  add(str(options.data_dir, "/tasks/.trash"), [](const std::string&) { return true; });
  add(str(options.data_dir, "/trash"), [](const std::string&) { return true; });
}

}  // namespace
}  // namespace cli
