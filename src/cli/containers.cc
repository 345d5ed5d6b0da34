#include "cli/containers.h"

#include <fcntl.h>

#include <algorithm>
#include <map>

#include "base/file.h"
#include "base/sync.h"
#include "base/text.h"
#include "driver/life/record.h"

namespace cli {

using base::Error;
using base::Result;
using base::str;

namespace {

constexpr std::size_t kNamedMax = 4;  // in a message

constexpr std::chrono::seconds kExitTimeout{5};  // a shim that lives answers at once

Container container_of(Definition definition);
void learn_exit(driver::Driver& driver, driver::TaskStatus& task);
bool has_id(const Container& container, const std::string& wanted);
bool begins_so(const Container& container, const std::string& wanted);
std::size_t id_bytes_min(const Container& container);
std::string some_of(const std::vector<Container>& containers);

}  // namespace

Result<std::vector<Container>> list_containers(driver::Driver& driver) {
  TRY(auto definitions, list_definitions(driver.options()->data_dir));  // before the tasks: one that starts is there
  TRY(auto tasks, driver.list());
  std::map<std::string, Definition> defined;
  for (Definition& definition : definitions) defined.emplace(definition.container_id, std::move(definition));
  std::vector<Container> all;
  for (driver::TaskStatus& task : tasks) {
    Container& container = all.emplace_back();
    container.task = std::move(task);
    learn_exit(driver, container.task);
    const auto it = defined.find(container_id_of(container.task));
    if (it == defined.end()) continue;
    container.definition = std::move(it->second);
    defined.erase(it);
  }
  for (auto& [id, definition] : defined) {
    if (!definition.transient) all.push_back(container_of(std::move(definition)));
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Container& a, const Container& b) { return created_at(a) < created_at(b); });
  return all;
}

std::string name_of(const Container& container) {
  if (container.definition) return container.definition->name;
  const auto parts = base::split(container.task.id.text, '/');  // ALLOCATION/TASK/HASH
  if (parts.size() != 3) return container_id_of(container.task);
  return parts.front() == "cli" ? container.task.name : str(parts[1], "-", parts[0]);
}

std::string state_of(const Container& container) {
  if (container.is_created) return "created";
  switch (container.task.state) {
    case driver::TaskState::kRunning:
      return attribute(container.task, "paused") == "true" ? "paused" : "running";
    case driver::TaskState::kExited:
      return "exited";
    case driver::TaskState::kUnreadable:
      return "unreadable";
    case driver::TaskState::kUnknown:
      break;
  }
  return "starting";
}

std::optional<driver::WallTime> created_at(const Container& container) {
  if (container.definition) return container.definition->created_at;
  return container.task.started_at;
}

std::vector<Container> containers_named(const std::vector<Container>& all, const std::string& wanted) {
  for (const Container& container : all) {
    if (container.definition && container.definition->name == wanted) return {container};
  }
  std::vector<Container> found;
  for (const Container& container : all) {
    if (has_id(container, wanted)) return {container};
    if (name_of(container) == wanted || begins_so(container, wanted)) found.push_back(container);
  }
  return found;
}

Result<Container> find_container(const std::vector<Container>& all, const std::string& wanted) {
  auto found = containers_named(all, wanted);
  if (found.size() == 1) return std::move(found.front());
  if (found.empty()) return Error::not_found(str("there is no container ", wanted, ": see containerd-driver ps -a"));
  return Error::invalid_argument(str(wanted, " may be ", some_of(found), ": give more of it"));
}

Result<driver::ExitResult> wait_for_exit(const base::Context& ctx, driver::Driver& driver, const driver::TaskId& id) {
  const base::OneShot<driver::ExitResult> exit;
  TRY(const base::Subscription waiting,
      driver.wait(id, [exit](const driver::ExitResult& result) { exit.set(result); }));
  return exit.wait(ctx);
}

Result<base::Fd> open_rootfs(const driver::PluginOptions& options, const Container& container) {
  const std::string path = rootfs_path(options, container);
  auto rootfs = base::open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!rootfs && rootfs.error().code != base::Code::kNotFound) return rootfs;
  // What was opened is asked, not what has its name: the container may end meanwhile.
  bool mounted = false;
  if (rootfs) {
    TRY(mounted, base::is_mount_root(rootfs->get(), path));
  }
  if (mounted) return rootfs;
  return Error::failed_precondition(
      str("the file system of ", name_of(container), " is not mounted: start the container first"));
}

std::string rootfs_path(const driver::PluginOptions& options, const Container& container) {
  return str(options.state_dir, "/bundles/", container_id_of(container.task), "/rootfs");
}

std::string attribute(const driver::TaskStatus& task, const std::string& key, const std::string& otherwise) {
  const auto it = task.attributes.find(key);
  return it == task.attributes.end() ? otherwise : it->second;
}

std::string container_id_of(const driver::TaskStatus& task) {
  return attribute(task, "container_id");
}

namespace {

Container container_of(Definition definition) {
  Container container;
  container.is_created = true;
  container.task.id.text = definition.task_id;
  container.task.name = definition.name;
  container.task.attributes["container_id"] = definition.container_id;
  if (const auto run = run_of(definition)) container.task.attributes["image"] = run->spec.options.image;
  container.definition = std::move(definition);
  return container;
}

// Nobody may have looked since a detached container has ended: its shim knows how.
void learn_exit(driver::Driver& driver, driver::TaskStatus& task) {
  if (task.state != driver::TaskState::kExited || task.exit || !task.id.text.starts_with("cli/")) return;
  const auto ctx = base::Context::background().with_timeout(kExitTimeout);
  if (!driver.attach(ctx, task.id)) return;  // of before a reboot, or it goes just now
  if (!wait_for_exit(ctx, driver, task.id)) return;
  if (auto now = driver.inspect(task.id)) task = *std::move(now);
}

bool has_id(const Container& container, const std::string& wanted) {
  return container_id_of(container.task) == wanted || container.task.id.text == wanted;
}

bool begins_so(const Container& container, const std::string& wanted) {
  if (wanted.empty()) return false;
  const std::string container_id = container_id_of(container.task);
  if (container_id.starts_with(wanted) && wanted.size() > id_bytes_min(container)) return true;
  if (long_id(container_id).starts_with(wanted)) return true;
  const std::string& id = container.task.id.text;  // ALLOCATION/TASK/HASH; of the command line's own: cli/NAME/HASH
  if (id.starts_with("cli/")) return false;
  const std::size_t slash = wanted.find('/');
  if (slash == std::string::npos) return id.starts_with(wanted);
  return id.starts_with(wanted.substr(0, slash)) && container.task.name == wanted.substr(slash + 1);
}

// The beginning of another container's name is nobody's: who means "web" does not mean "web2".
std::size_t id_bytes_min(const Container& container) {
  if (!container.definition) return 0;
  const std::size_t bytes = container_id_of(container.task).size();
  return bytes > driver::kIdHashBytes ? bytes - driver::kIdHashBytes - 1 : 0;
}

std::string some_of(const std::vector<Container>& containers) {
  std::string text;
  for (std::size_t i = 0; i < std::min(containers.size(), kNamedMax); ++i) {
    text += str(i == 0 ? "" : ", ", container_id_of(containers[i].task));
  }
  if (containers.size() > kNamedMax) text += str(" or one of ", containers.size() - kNamedMax, " others");
  return text;
}

}  // namespace
}  // namespace cli
