#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "driver/driver_impl.h"
#include "driver/image/check.h"
#include "driver/image/collection.h"
#include "driver/net/groups.h"
#include "driver/net/networks.h"

namespace driver {

using base::Context;
using base::Subscription;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr seconds kFingerprintInterval{30};  // healthy: Nomad's own drivers do the same
constexpr seconds kFingerprintRetry{10};     // not healthy: healthy again within 30 s of the repair
constexpr seconds kReapTimeout{120};
/// An agent that starts asks again for the networks of all its groups, within seconds.
constexpr seconds kGroupsAskedForTime{60};

}  // namespace

Fingerprint Driver::fingerprint(const Context& ctx) {
  return impl_->probe.look(ctx, *impl_->opts());
}

Subscription Driver::watch_fingerprint(std::function<void(const Fingerprint&)> callback) {
  // Whoever comes later is told what is known; the first one starts the looking.
  if (const auto known = *impl_->last_fingerprint.lock()) callback(*known);
  Subscription subscription = impl_->fingerprints.subscribe(std::move(callback));
  if (!impl_->fingerprinting.exchange(true)) impl_->schedule_fingerprint(seconds(0));
  return subscription;
}

void Driver::Impl::schedule_fingerprint(seconds delay) {
  loop.post([weak = weak_from_this(), delay] {
    const auto self = weak.lock();
    if (!self) return;
    self->fingerprint_timer = std::make_unique<base::Timer>(self->loop, delay, milliseconds(0), [weak] {
      const auto held = weak.lock();
      if (!held) return;
      const auto queued = held->housekeeping.submit("fingerprint", [held] { held->refresh_fingerprint(); });
      if (!queued) held->schedule_fingerprint(kFingerprintRetry);
    });
  });
}

void Driver::Impl::refresh_fingerprint() {
  const Fingerprint now = probe.look(Context::background().with_timeout(kFingerprintRetry), *opts());
  bool changed = false;
  {
    auto last = last_fingerprint.lock();
    changed = *last != now;
    *last = now;
  }
  if (changed) fingerprints.publish(now);
  destroy_owed();
  if (!tasks.lock()->empty()) listen_for_events();
  settle_networks();
  settle_group_networks();
  if (now.health == Health::kHealthy) {
    reap();
    if (!std::exchange(store_checked, true)) {
      check_images_after_boot(Context::background().with_timeout(kReapTimeout), opts()->data_dir,
                              opts()->state_dir + "/checked-boot", [store = store()] { return store.images_in_use(); });
    }
    collect_images();
  }
  ::malloc_trim(0);  // what a burst of starts needed: half a MiB after a hundred
  schedule_fingerprint(now.health == Health::kHealthy ? kFingerprintInterval : kFingerprintRetry);
}

void Driver::Impl::reap() {
  const DanglingOptions dangling = opts()->gc.dangling_containers;
  const auto now = base::Clock::now();
  Watched watched{.uptime = std::chrono::duration_cast<seconds>(now - started), .dangling_after = {}};
  if (dangling.enabled && now >= next_dangling) {
    next_dangling = now + dangling.period;
    watched.dangling_after = std::chrono::ceil<seconds>(dangling.creation_grace);
  }
  reaper.pass(store(), watched, dangling.dry_run);
}

// What is not known may run: only a record that says so, or none at all, gives a network back. (A start writes its
// record before it owes anything.)
void Driver::Impl::settle_networks() {
  const TaskStore store = this->store();
  const auto is_wanted = [&store](const std::string& container_id) {
    if (!is_container_id(container_id)) return true;
    const TaskOnDisk task = store.find(container_id);
    if (std::holds_alternative<NotWritten>(task)) return false;
    const auto* record = std::get_if<Record>(&task);
    if (record == nullptr) return true;
    if (record->boot_id != base::boot_id() || record->phase == Phase::kExited) return false;
    const base::ProcessId& needs = record->phase == Phase::kStarting ? record->owner : record->init;
    return needs.pid == 0 || !base::has_ended(needs);
  };
  driver::settle_networks(Context::background().with_timeout(kReapTimeout), store.roots().data_dir, is_wanted);
}

base::ProcessId Driver::Impl::agent() {
  const pid_t parent = ::getppid();
  return parent > 1 ? base::identify(parent).value_or(base::ProcessId{}) : base::ProcessId{};
}

void Driver::Impl::settle_group_networks() {
  if (base::Clock::now() - started < kGroupsAskedForTime) return;
  const TaskStore store = this->store();
  const auto has_tasks = [&store](const std::string& alloc_id) {
    const auto folders = store.list();
    if (!folders) return true;
    return std::any_of(folders->begin(), folders->end(), [&](const TaskFolder& folder) {
      const auto* record = std::get_if<Record>(&folder.task);
      return record == nullptr || record->alloc_id == alloc_id;
    });
  };
  driver::settle_group_networks(Context::background().with_timeout(kReapTimeout), {.state_dir = opts()->state_dir},
                                agent(), has_tasks);
}

void Driver::Impl::destroy_owed() {
  const std::set<TaskId> ids = *owed.lock();
  for (const TaskId& id : ids) {
    const auto task = find_task(id);
    if (task) {
      const auto destroyed = destroy_task(Context::cleanup(), task);
      if (!destroyed) {
        LOG_WARN("cannot remove a destroyed task, will try again",
                 {{"task", id.text}, {"error", destroyed.error().message}});
        continue;
      }
      tasks.lock()->erase(id);
    }
    owed.lock()->erase(id);
  }
}

void Driver::Impl::collect_images() {
  const auto options = opts();
  const auto found = programs();
  if (!options->image_gc.enabled || !found || base::Clock::now() < next_collection) return;
  next_collection = base::Clock::now() + options->image_gc.interval;
  const auto collected =
      image_store(*found).collect(Context::background().with_timeout(kReapTimeout), gc_request(options->image_gc));
  if (!collected) {
    if (collected.error().code == base::Code::kNotFound) return;  // no store yet
    LOG_WARN("cannot remove unused images, will try again", {{"error", collected.error().message}});
    return;
  }
  for (const oci::GcDecision& image : collected->images) {
    if (!image.removed) continue;
    LOG_INFO("image removed", {{"image", image.reference}, {"bytes", image.bytes}, {"reason", image.reason}});
  }
  for (const std::string& problem : collected->problems) {
    LOG_WARN("cannot remove all unused images, will try again", {{"problem", problem}});
  }
}

}  // namespace driver
