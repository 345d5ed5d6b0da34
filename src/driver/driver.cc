#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string_view>

#include "base/file.h"
#include "base/log.h"
#include "driver/driver_impl.h"
#include "driver/host/programs.h"
#include "driver/image/verifier.h"

namespace driver {

using base::Context;
using base::Result;
using base::Status;
using base::str;

base::Error unknown_task(const TaskId& id) {
  return base::Error::not_found(base::str("task not found for given id: ", id.text));
}

namespace {

// A misspelt one would only show as a registry that is asked in another way than its file says. The folders that are
// looked into anyway may be missing.
void warn_of_missing_folders(const std::string& hosts_dir) {
  if (hosts_dir == PluginOptions().hosts_dir) return;
  for (std::string_view rest = hosts_dir; !rest.empty();) {
    const std::string folder(rest.substr(0, rest.find(':')));
    rest.remove_prefix(std::min(rest.size(), folder.size() + 1));
    std::error_code error;
    if (folder.empty() || std::filesystem::is_directory(folder, error)) continue;
    LOG_WARN("a folder of hosts_dir does not exist: no registry is configured by it", {{"folder", folder}});
  }
}

}  // namespace

Driver::Driver(base::Loop& loop, base::Crew& crew) : impl_(std::make_shared<Impl>(loop, crew)) {}

Driver::~Driver() {
  impl_->loop.run([this] { impl_->fingerprint_timer.reset(); });
  *impl_->events_place.lock() = {};
}

std::shared_ptr<const PluginOptions> Driver::options() const {
  return impl_->opts();
}

Status Driver::configure(PluginOptions options, NodeInfo node) {
  TRY_VOID(find_image_verifier(options.image_verifier));
  if (!options.auth.empty() && options.auth.server_address.empty()) {
    LOG_WARN("the plugin's auth has no server_address: it is used for docker.io only",
             {{"hint", "set server_address to the registry that it is for, or to \"*\" for every one"}});
  }
  warn_of_missing_folders(options.hosts_dir);
  impl_->turns.set_at_once(static_cast<std::size_t>(options.starts_at_once));
  *impl_->options_in_force.lock() = std::make_shared<const PluginOptions>(std::move(options));
  *impl_->node.lock() = node;
  return {};
}

void Driver::Impl::emit(const TaskSpec& spec, std::string message, std::map<std::string, std::string> annotations) {
  events.publish({spec.id, spec.alloc_id, spec.name, std::chrono::system_clock::now(), std::move(message),
                  std::move(annotations)});
}

std::shared_ptr<Task> Driver::Impl::find_task(const TaskId& id) {
  auto held = tasks.lock();
  const auto it = held->find(id);
  return it == held->end() ? nullptr : it->second.task;
}

std::shared_ptr<Task> Driver::Impl::find_container(const std::string& container_id) {
  auto held = tasks.lock();
  const auto it = std::find_if(held->begin(), held->end(), [&](const auto& entry) {
    return entry.second.task && container_id_of(entry.first) == container_id;
  });
  return it == held->end() ? nullptr : it->second.task;
}

Result<Programs> Driver::Impl::programs() {
  const auto options = opts();
  Programs found;
  TRY(found.shim, find_program(options->shim, "shim"));
  TRY(found.runtime, find_program(options->runtime_binary, "runtime_binary"));
  TRY(found.image_helper, find_image_helper(options->image_helper));
  return found;
}

oci::Images& Driver::Impl::image_store(const Programs& programs) {
  auto held = images.lock();
  if (!*held) {
    const auto options = opts();
    *held = std::make_unique<oci::Images>(oci::ImagesOptions{options->data_dir, programs.image_helper,
                                                             [store = store()] { return store.images_in_use(); },
                                                             options->hosts_dir});
  }
  return **held;
}

// Shims send their events here. They are only hints, so a task starts without as well; but a shim that finds nobody
// repeats each event for 15 s. While another plugin has the place (one that is ending, or a second one on these
// folders) this is tried again with each start and recovery, and with each look at the node.
void Driver::Impl::listen_for_events() {
  auto held = events_place.lock();
  if (held->server) return;
  const std::string path = opts()->state_dir + "/events";
  if (auto made = base::make_dirs(opts()->state_dir, 0711); !made) return;
  auto lock = base::open_file(path + ".lock", O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
  if (!lock || ::flock(lock->get(), LOCK_EX | LOCK_NB) != 0) {
    LOG_DEBUG("no event server: another process has it", {{"socket", path}});
    return;
  }
  if (::ftruncate(lock->get(), 0) == 0) [[maybe_unused]]
    const auto named = base::write_all(Context::cleanup(), lock->get(), str(::getpid(), "\n"));
  auto server = shim::EventServer::listen(loop, path, [weak = weak_from_this()](const shim::Event& event) {
    LOG_DEBUG("shim event", {{"topic", event.topic}, {"container", event.container_id}});
    const auto self = weak.lock();
    if (!self || event.topic != shim::kTopicOom) return;
    if (const auto task = self->find_container(event.container_id)) task->look_for_oom();
  });
  if (server) {
    *held = {*std::move(lock), *std::move(server)};
  } else {
    LOG_DEBUG("no event server", {{"error", server.error().message}});
  }
}

}  // namespace driver
