#include "driver/driver.h"

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <ctime>
#include <iomanip>
#include <map>
#include <sstream>

#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "driver/host/programs.h"
#include "driver/host/stats.h"
#include "driver/image/check.h"
#include "driver/image/collection.h"
#include "driver/image/verifier.h"
#include "driver/life/claim.h"
#include "driver/life/driver_state.h"
#include "driver/life/exec.h"
#include "driver/life/fingerprint.h"
#include "driver/life/gates.h"
#include "driver/life/plan.h"
#include "driver/life/reaper.h"
#include "driver/life/record.h"
#include "driver/life/start_task.h"
#include "driver/life/stats_stream.h"
#include "driver/life/stop.h"
#include "driver/life/task.h"
#include "driver/life/task_store.h"
#include "driver/life/teardown.h"
#include "oci/images.h"
#include "shim/cgroup.h"
#include "shim/events.h"

namespace driver {

namespace {
using base::Context;
using base::Result;
using base::Status;
using base::str;
using base::Subscription;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kFingerprintInterval{30};  // healthy: Nomad's own drivers do the same
constexpr seconds kFingerprintRetry{10};     // not healthy: healthy again within 30 s of the repair
constexpr seconds kAdoptTimeout{2};          // a shim that is slower is adopted in the background
constexpr seconds kCancelTimeout{30};        // a step of a start that cannot be interrupted, and the undoing
constexpr seconds kReapTimeout{120};
constexpr milliseconds kStatsIntervalMin{100};  // of any caller, as for the option stats_interval

/// A place in the table of tasks: taken while it starts, with the task once it runs.
struct Slot {
  std::stop_source stop_start;      ///< cancels a start that is under way
  base::OneShot<bool> start_ended;  ///< whether it came to a task; what a failed one made is undone by then
  std::shared_ptr<Task> task;       ///< null while starting
};

base::Error unknown_task(const TaskId& id) {
  return base::Error::not_found(str("task not found for given id: ", id.text));
}
}  // namespace

struct Driver::Impl : std::enable_shared_from_this<Driver::Impl> {
  Impl(base::Loop& l, base::Crew& c) : loop(l), crew(c) {}

  base::Loop& loop;
  base::Crew& crew;
  base::Hub<TaskEvent> events;  // before the crews, whose jobs tell it things
  // What follows exits: few threads, and a queue that no number of tasks fills, as an exit must never be refused.
  base::Crew background{{.name = "exits", .threads_max = 4, .queue_max = 100'000, .retry_on = &loop}};
  base::Crew housekeeping{{.name = "housekeeping", .threads_max = 1, .queue_max = 100'000}};
  // Reading cgroup files does not block, so one thread samples all tasks, however many are due at once.
  base::Crew sampling{{.name = "samples", .threads_max = 1, .queue_max = 100'000}};
  ExecHost execs{loop};
  StopHost stops{loop};
  base::Guarded<std::shared_ptr<const PluginOptions>> options_in_force{std::make_shared<PluginOptions>()};
  base::Guarded<NodeInfo> node;
  base::Guarded<std::map<TaskId, Slot>> tasks;
  base::Guarded<std::unique_ptr<oci::Images>> images;  ///< made at the first use, for the data_dir of that time
  base::Guarded<std::unique_ptr<shim::EventServer>> events_server;
  base::Hub<Fingerprint> fingerprints;
  base::Guarded<std::optional<Fingerprint>> last_fingerprint;
  const HostFacts host = read_host_facts();
  HostProbe probe;
  Reaper reaper{{[this](const TaskId& id) { return tasks.lock()->contains(id); },
                 [this](const Record& record) { return undo(record); }}};  ///< housekeeping only
  std::unique_ptr<base::Timer> fingerprint_timer;  ///< loop thread only
  std::atomic<bool> fingerprinting{false};
  bool store_checked = false;                           ///< housekeeping only
  base::Deadline next_collection = base::Clock::now();  ///< housekeeping only
  const base::Deadline started = base::Clock::now();

  std::shared_ptr<const PluginOptions> opts() { return *options_in_force.lock(); }
  TaskStore store() { return task_store_of(*opts()); }
  Status undo(const Record& record) { return teardown(Context::cleanup(), store(), record); }

  std::shared_ptr<Task> find_task(const TaskId& id);
  std::shared_ptr<Task> find_container(const std::string& container_id);
  Result<Programs> programs();
  oci::Images& image_store(const Programs& programs);
  void listen_for_events();
  Record new_record(const TaskSpec& spec, const Programs& programs);
  Result<std::shared_ptr<Task>> start_reserved(const Context& ctx, const TaskSpec& spec);
  Result<std::shared_ptr<Task>> recover_record(const Context& ctx, const TaskId& id, Record record);
  void emit(const TaskSpec& spec, std::string message, std::map<std::string, std::string> annotations);
  std::optional<base::OneShot<bool>> cancel_start(const TaskId& id);
  Status destroy_task(const Context& ctx, const std::shared_ptr<Task>& task);
  void refresh_fingerprint();
  void schedule_fingerprint(seconds delay);
  void collect_images();
};

Driver::Driver(base::Loop& loop, base::Crew& crew) : impl_(std::make_shared<Impl>(loop, crew)) {}

Driver::~Driver() {
  impl_->loop.run([this] { impl_->fingerprint_timer.reset(); });
  impl_->events_server.lock()->reset();
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
  *impl_->options_in_force.lock() = std::make_shared<const PluginOptions>(std::move(options));
  *impl_->node.lock() = node;
  return {};
}

// ---- start -------------------------------------------------------------------------------------------------------

Result<StartedTask> Driver::start(const Context& ctx, const TaskSpec& spec) {
  TRY_VOID(plan_start(spec, *impl_->opts(), impl_->host));
  const Slot own;
  {
    auto tasks = impl_->tasks.lock();
    const auto it = tasks->find(spec.id);
    // The agent lost the first answer. It never uses an id twice, so this holds for a task that has ended as well: to
    // run it again would be to run it twice.
    if (it != tasks->end() && it->second.task) return StartedTask{encode_driver_state(it->second.task->record())};
    if (it != tasks->end()) {
      return base::Error::already_exists(str("task with ID \"", spec.id.text, "\" is being started"));
    }
    tasks->emplace(spec.id, own);
  }
  // The start ends when the caller goes away, and when the task is stopped or destroyed meanwhile.
  const std::stop_callback forward(ctx.stop(), [stop = own.stop_start]() mutable { stop.request_stop(); });
  auto task = impl_->start_reserved(ctx.with_stop(own.stop_start.get_token()), spec);
  {
    auto tasks = impl_->tasks.lock();
    if (task) {
      (*tasks)[spec.id].task = *task;
    } else {
      tasks->erase(spec.id);
    }
  }
  own.start_ended.set(task.has_value());
  if (!task) return std::move(task).error();
  return StartedTask{encode_driver_state((*task)->record())};
}

Result<std::shared_ptr<Task>> Driver::Impl::start_reserved(const Context& ctx, const TaskSpec& spec) {
  TRY(Programs programs, this->programs());
  TRY(const std::string runtime, choose_runtime(spec.options.runtime, *opts()));
  TRY(programs.runtime, find_program(runtime, "runtimes"));
  Record record = new_record(spec, programs);
  const TaskStore store = this->store();
  const ClaimDeps claim{store, [this](const Record& earlier) { return undo(earlier); },
                        [this](const TaskId& id) { return find_task(id) != nullptr; }};
  TRY(auto running, claim_task(ctx, claim, record));
  if (running) return recover_record(ctx, spec.id, *std::move(running));
  TRY_VOID(base::make_dirs(record.names.task_dir, 0700));
  TRY_VOID(base::make_dirs(std::filesystem::path(record.names.shim_socket).parent_path(), 0700));
  TRY_VOID(TaskStore::write(record));
  FAULT_POINT("start.recorded");
  listen_for_events();

  const auto options = opts();
  const NodeInfo node_info = *node.lock();
  const StartDeps deps{loop,
                       background,
                       events,
                       image_store(programs),
                       *options,
                       host,
                       node_info,
                       [this](const TaskSpec& task, std::string message, std::map<std::string, std::string> notes) {
                         emit(task, std::move(message), std::move(notes));
                       }};
  auto task = start_task(ctx, deps, spec, record);
  if (task) {
    LOG_INFO("task started", {{"task", spec.id.text},
                              {"container", record.names.container_id},
                              {"image", record.image_digest},
                              {"pid", (*task)->record().init.pid}});
    return task;
  }
  const auto undone = undo(record);
  if (!undone) {
    LOG_WARN("what a failed start left could not be removed, will try again",
             {{"task", spec.id.text}, {"error", undone.error().message}});
  }
  return std::move(task).error();
}

Record Driver::Impl::new_record(const TaskSpec& spec, const Programs& programs) {
  Record record;
  record.id = spec.id;
  record.name = spec.name;
  record.alloc_id = spec.alloc_id;
  record.alloc_dir = spec.alloc_dir;
  record.names = plan_names(spec, store().roots());
  record.boot_id = base::boot_id();
  record.from_command_line = spec.from_command_line;
  record.remove_on_exit = spec.remove_on_exit;
  if (spec.from_command_line) record.owner = base::identify(::getpid()).value_or(base::ProcessId{});
  record.shim_binary = programs.shim;
  record.runtime_binary = programs.runtime;
  record.state_dir = opts()->state_dir;
  record.privileged = spec.options.privileged;
  record.labels = spec.options.labels;
  record.seccomp = spec.options.seccomp && (!spec.options.privileged || !spec.options.seccomp_profile.empty());
  return record;
}

// ---- recover -----------------------------------------------------------------------------------------------------

Status Driver::recover(const Context& ctx, const TaskId& id, const std::string& driver_state) {
  if (impl_->find_task(id)) return {};
  const std::string container_id = container_id_of(id);
  TaskOnDisk found = find_patiently(ctx, impl_->store(), container_id);
  if (const auto* unreadable = std::get_if<Unreadable>(&found)) {
    return in_use_error(container_id, *unreadable).wrap(str("recovering task ", id.text));
  }
  auto* record = std::get_if<Record>(&found);
  if (record == nullptr) return explain_missing_record(id, driver_state);
  if (record->boot_id != base::boot_id()) {
    return base::Error::not_found(str("task ", id.text, " was lost: the host was rebooted"));
  }
  if (record->phase == Phase::kStarting) {
    return base::Error::not_found(str("task ", id.text, " was lost: its start was cut off"));
  }
  TRY(auto task, impl_->recover_record(ctx, id, std::move(*record)));
  auto tasks = impl_->tasks.lock();
  auto& slot = (*tasks)[id];
  if (!slot.task) slot.task = task;
  impl_->listen_for_events();
  return {};
}

// The shim knows the exit of a task that ended meanwhile and tells it to the Wait that watch_exit sends. A shim that is
// slow keeps its task; one that is gone takes it along.
Result<std::shared_ptr<Task>> Driver::Impl::recover_record(const Context& ctx, const TaskId& id, Record record) {
  if (record.phase == Phase::kExited) {
    return std::make_shared<Task>(loop, background, events, std::move(record), nullptr);
  }
  auto shim = shim::Shim::adopt(ctx.with_timeout(kAdoptTimeout), loop, record.shim_options(), record.names.shim());
  auto task = std::make_shared<Task>(loop, background, events, std::move(record), shim ? *shim : nullptr);
  if (shim) {
    task->take_over();
  } else {
    LOG_WARN("cannot reach the shim of a task", {{"task", id.text}, {"error", shim.error().message}});
    task->retry_adoption(shim.error());
  }
  return task;
}

// ---- wait, stop, destroy -----------------------------------------------------------------------------------------

Result<Subscription> Driver::wait(const TaskId& id, std::function<void(const ExitResult&)> callback) {
  const auto task = impl_->find_task(id);
  if (!task) return unknown_task(id);
  return task->on_exit(std::move(callback));
}

Result<Subscription> Driver::stop(const TaskId& id, std::chrono::nanoseconds timeout, const std::string& signal,
                                  std::function<void(const Status&)> on_done) {
  int number = SIGTERM;
  if (!signal.empty()) {
    const auto named = base::signal_from_name(signal);
    if (!named) return base::Error::invalid_argument(str("Invalid signal: ", signal));
    number = *named;
  }
  const auto task = impl_->find_task(id);
  if (!task) {
    impl_->cancel_start(id);
    on_done({});
    return Subscription();
  }
  if (const Record record = task->record(); signal.empty() && !record.stop_signal.empty()) {
    number = base::signal_from_name(record.stop_signal).value_or(SIGTERM);
  }
  return stop_task(impl_->stops, task, number, timeout, std::move(on_done));
}

Status Driver::destroy(const Context& ctx, const TaskId& id, bool force) {
  const auto task = impl_->find_task(id);
  if (task) {
    if (task->running() && !force) return base::Error::failed_precondition("cannot destroy running task");
    TRY_VOID(impl_->destroy_task(ctx, task));
    impl_->tasks.lock()->erase(id);
    return {};
  }
  if (const auto start_ended = impl_->cancel_start(id)) {
    // The start undoes what it made, unless it came to its end first.
    TRY(const bool started, start_ended->wait(ctx.with_timeout(kCancelTimeout)));
    return started ? destroy(ctx, id, force) : Status();
  }
  // An id that this process never saw: its record may still be there.
  const std::string container_id = container_id_of(id);
  TaskOnDisk found = find_patiently(ctx, impl_->store(), container_id);
  if (const auto* unreadable = std::get_if<Unreadable>(&found)) return in_use_error(container_id, *unreadable);
  const auto* record = std::get_if<Record>(&found);
  if (record == nullptr) return {};
  if (!force && record->phase == Phase::kRunning && record->boot_id == base::boot_id() &&
      base::open_pidfd(record->init)) {
    return base::Error::failed_precondition("cannot destroy running task");
  }
  return impl_->undo(*record);
}

Status Driver::remove_unreadable(const Context& ctx, const std::string& container_id) {
  const TaskStore store = impl_->store();
  if (!is_container_id(container_id) || std::holds_alternative<NotWritten>(store.find(container_id))) {
    return base::Error::not_found(str("there is no container ", container_id));
  }
  TRY(const Programs programs, impl_->programs());
  return teardown_unreadable(ctx, store, container_id, programs);
}

// The polite way, which lets the runtime clean up after itself, then teardown for all the rest. A step that fails here
// is not an error yet: teardown does it by force.
Status Driver::Impl::destroy_task(const Context& ctx, const std::shared_ptr<Task>& task) {
  if (task->running()) {
    const base::OneShot<bool> killed;
    const auto killing = kill_task(stops, task, [killed](const Status& done) { killed.set(done.has_value()); });
    [[maybe_unused]] const auto waited = killed.wait(ctx);
  }
  task->expect_end();
  const Context cleanup = Context::cleanup();
  if (const auto shim = task->shim()) {
    [[maybe_unused]] const auto removed = shim->remove(cleanup, "");
    [[maybe_unused]] const auto ended = shim->shutdown(cleanup);
  }
  return teardown(cleanup, store(), task->record());
}

/// The end of the start of `id` if one is under way.
std::optional<base::OneShot<bool>> Driver::Impl::cancel_start(const TaskId& id) {
  auto held = tasks.lock();
  const auto it = held->find(id);
  if (it == held->end() || it->second.task) return std::nullopt;
  it->second.stop_start.request_stop();
  return it->second.start_ended;
}

// ---- inspect, signal, exec, stats, events ------------------------------------------------------------------------

namespace {
/// "2026-01-02T03:04:05Z", "" for 0.
std::string utc_text(std::int64_t unix_seconds) {
  if (unix_seconds == 0) return "";
  const std::time_t time = unix_seconds;
  std::tm parts = {};
  ::gmtime_r(&time, &parts);
  std::ostringstream out;
  out << std::put_time(&parts, "%Y-%m-%dT%H:%M:%SZ");
  return out.str();
}

TaskStatus status_of(const Record& record) {
  TaskStatus status;
  status.id = record.id;
  status.name = record.name;
  status.state = record.phase == Phase::kExited    ? TaskState::kExited
                 : record.phase == Phase::kRunning ? TaskState::kRunning
                                                   : TaskState::kUnknown;
  status.started_at = record.started_at;
  status.completed_at = record.exited_at;
  status.exit = record.exit;
  status.attributes = {{"container_id", record.names.container_id},
                       {"image", record.image_reference},
                       {"image_digest", record.image_digest},
                       {"image_resolved_digest", record.image.resolved_digest},
                       {"image_platform", record.image.platform},
                       {"image_size", str(record.image.size_bytes)},
                       {"image_pulled_at", utc_text(record.image.pulled_at_unix)},
                       {"image_verified", record.image.verified},
                       {"runtime", record.runtime_binary},
                       {"cgroup", record.names.cgroup_path},
                       {"pid", str(record.init.pid)},
                       {"shim_pid", str(record.shim.pid)},
                       {"privileged", record.privileged ? "true" : "false"},
                       {"seccomp", record.seccomp ? "true" : "false"}};
  for (const auto& [name, value] : record.labels) status.attributes["label." + name] = value;
  return status;
}

TaskStatus status_of_unreadable(const std::string& container_id, const base::Error& why) {
  TaskStatus status;
  status.id.text = container_id;
  status.state = TaskState::kUnreadable;
  status.attributes = {{"container_id", container_id}, {"problem", why.message}};
  return status;
}
}  // namespace

Result<TaskStatus> Driver::inspect(const TaskId& id) {
  const auto task = impl_->find_task(id);
  if (!task) return unknown_task(id);
  return status_of(task->record());
}

Result<std::vector<TaskStatus>> Driver::list() {
  std::vector<TaskStatus> all;
  TRY(const auto folders, impl_->store().list());
  for (const TaskFolder& folder : folders) {
    if (const auto* unreadable = std::get_if<Unreadable>(&folder.task)) {
      all.push_back(status_of_unreadable(folder.container_id, unreadable->why));
    }
    const auto* record = std::get_if<Record>(&folder.task);
    if (record == nullptr) continue;
    TaskStatus status = status_of(*record);
    const bool alive = record->boot_id == base::boot_id() && base::open_pidfd(record->init).has_value();
    if (status.state == TaskState::kRunning && !alive) status.state = TaskState::kExited;
    all.push_back(std::move(status));
  }
  return all;
}

Status Driver::signal(const Context& ctx, const TaskId& id, const std::string& name) {
  const auto number = base::signal_from_name(name);
  if (!number) return base::Error::invalid_argument(str("Invalid signal: ", name));
  const auto task = impl_->find_task(id);
  if (!task) return unknown_task(id);
  TRY_VOID(task->send_signal(ctx, *number));
  return {};
}

Result<std::shared_ptr<ExecSession>> Driver::exec(const TaskId& id, ExecSpec spec, ExecCallbacks callbacks) {
  auto task = impl_->find_task(id);
  if (!task) return unknown_task(id);
  return run_exec(impl_->execs, std::move(task), std::move(spec), std::move(callbacks));
}

Result<Subscription> Driver::stats(const TaskId& id, std::chrono::nanoseconds interval,
                                   std::function<void(const TaskStats&)> callback, std::function<void()> on_end) {
  const auto task = impl_->find_task(id);
  if (!task) return unknown_task(id);
  const auto asked = std::chrono::duration_cast<milliseconds>(interval);
  const milliseconds every = std::max(kStatsIntervalMin, impl_->opts()->stats_interval.value_or(asked));
  const CgroupLocation location{.mode = detect_cgroup_mode(), .path = task->record().names.cgroup_path};
  const auto stream = StatsStream::start(impl_->loop, impl_->sampling, location, impl_->node.lock()->core_mhz, every,
                                         std::move(callback), std::move(on_end));
  auto exit = std::make_shared<Subscription>(task->on_exit([stream](const ExitResult&) { stream->end(); }));
  return Subscription([stream, exit] {
    exit->reset();
    stream->end();
  });
}

Subscription Driver::events(std::function<void(const TaskEvent&)> callback) {
  return impl_->events.subscribe(std::move(callback));
}

void Driver::Impl::emit(const TaskSpec& spec, std::string message, std::map<std::string, std::string> annotations) {
  events.publish({spec.id, spec.alloc_id, spec.name, std::chrono::system_clock::now(), std::move(message),
                  std::move(annotations)});
}

// ---- fingerprint and reaper --------------------------------------------------------------------------------------

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
  if (now.health == Health::kHealthy) {
    reaper.pass(store(), std::chrono::duration_cast<seconds>(base::Clock::now() - started));
    if (!std::exchange(store_checked, true)) {
      check_images_after_boot(Context::background().with_timeout(kReapTimeout), opts()->data_dir,
                              opts()->state_dir + "/checked-boot", [store = store()] { return store.images_in_use(); });
    }
    collect_images();
  }
  ::malloc_trim(0);  // what a burst of starts needed: half a MiB after a hundred
  schedule_fingerprint(now.health == Health::kHealthy ? kFingerprintInterval : kFingerprintRetry);
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

// ---- parts -------------------------------------------------------------------------------------------------------

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
// repeats each event for 15 s.
void Driver::Impl::listen_for_events() {
  auto held = events_server.lock();
  if (*held) return;
  const std::string path = opts()->state_dir + "/events";
  if (auto made = base::make_dirs(opts()->state_dir, 0711); !made) return;
  auto server = shim::EventServer::listen(loop, path, [weak = weak_from_this()](const shim::Event& event) {
    LOG_DEBUG("shim event", {{"topic", event.topic}, {"container", event.container_id}});
    const auto self = weak.lock();
    if (!self || event.topic != shim::kTopicOom) return;
    if (const auto task = self->find_container(event.container_id)) task->look_for_oom();
  });
  if (server) {
    *held = std::move(*server);
  } else {
    LOG_DEBUG("no event server", {{"error", server.error().message}});
  }
}

}  // namespace driver
