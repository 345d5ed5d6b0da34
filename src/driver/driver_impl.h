// What the verbs of Driver share; each of driver_*.cc has some of them.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stop_token>
#include <string>

#include "base/sync.h"
#include "driver/driver.h"
#include "driver/host/programs.h"
#include "driver/life/exec.h"
#include "driver/life/fingerprint.h"
#include "driver/life/news.h"
#include "driver/life/reaper.h"
#include "driver/life/record.h"
#include "driver/life/stop.h"
#include "driver/life/task.h"
#include "driver/life/task_store.h"
#include "driver/life/teardown.h"
#include "driver/life/turns.h"
#include "driver/spec/security.h"
#include "oci/images.h"
#include "shim/events.h"

namespace driver {

/// A place in the table of tasks: taken while it starts, with the task once it runs.
struct Slot {
  std::stop_source stop_start;      ///< cancels a start that is under way
  base::OneShot<bool> start_ended;  ///< whether it came to a task; what a failed one made is undone by then
  std::shared_ptr<Task> task;       ///< null while starting
};

/// The socket that shims of this state folder tell their events. It is one process's, whose number is in the lock file.
struct EventsPlace {
  base::Fd lock;  // before the server: the socket is removed under it
  std::unique_ptr<shim::EventServer> server;
};

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
  Turns turns;
  ExecHost execs{loop, turns};
  StopHost stops{loop};
  base::Guarded<std::shared_ptr<const PluginOptions>> options_in_force{std::make_shared<PluginOptions>()};
  base::Guarded<NodeInfo> node;
  base::Guarded<std::map<TaskId, Slot>> tasks;
  base::Guarded<std::unique_ptr<oci::Images>> images;  ///< made at the first use, for the data_dir of that time
  base::Guarded<EventsPlace> events_place;
  /// What DestroyTask could not remove: tried again until it is gone.
  base::Guarded<std::set<TaskId>> owed;
  News news;
  base::Guarded<std::set<TaskId>> asked_for;  ///< that an agent wanted to recover, in vain
  base::Hub<Fingerprint> fingerprints;
  base::Guarded<std::optional<Fingerprint>> last_fingerprint;
  const HostFacts host = read_host_facts();
  HostProbe probe;
  Reaper reaper{{[this](const TaskId& id) { return tasks.lock()->contains(id) || asked_for.lock()->contains(id); },
                 [this](const Record& record) { return undo(record); }}};  ///< housekeeping only
  std::unique_ptr<base::Timer> fingerprint_timer;                          ///< loop thread only
  std::atomic<bool> fingerprinting{false};
  bool store_checked = false;                           ///< housekeeping only
  base::Deadline next_collection = base::Clock::now();  ///< housekeeping only
  base::Deadline next_dangling = base::Clock::now();    ///< housekeeping only
  const base::Deadline started = base::Clock::now();

  std::shared_ptr<const PluginOptions> opts() { return *options_in_force.lock(); }
  TaskStore store() { return task_store_of(*opts()); }
  base::Status undo(const Record& record) { return teardown(base::Context::cleanup(), store(), record); }

  std::shared_ptr<Task> find_task(const TaskId& id);
  base::Result<std::shared_ptr<shim::Shim>> shim_of(const TaskId& id);
  std::shared_ptr<Task> find_container(const std::string& container_id);
  base::Result<Programs> programs();
  oci::Images& image_store(const Programs& programs);
  void listen_for_events();
  Record new_record(const TaskSpec& spec, const Programs& programs);
  base::Result<std::shared_ptr<Task>> start_reserved(const base::Context& ctx, const TaskSpec& spec);
  base::Result<Record> record_to_recover(const base::Context& ctx, const TaskId& id, const std::string& driver_state);
  void know(const TaskId& id, std::shared_ptr<Task> task);
  base::Result<std::shared_ptr<Task>> recover_record(const base::Context& ctx, const TaskId& id, Record record);
  void emit(const TaskSpec& spec, std::string message, std::map<std::string, std::string> annotations);
  std::optional<base::OneShot<bool>> cancel_start(const TaskId& id);
  base::Status destroy_task(const base::Context& ctx, const std::shared_ptr<Task>& task);
  void refresh_fingerprint();
  void schedule_fingerprint(std::chrono::seconds delay);
  void collect_images();
  void reap();
  void destroy_owed();
  /// Gives back the networks of containers that have ended, or that nobody knows any more.
  void settle_networks();
  /// Removes the networks of groups that no agent will give back.
  void settle_group_networks();
  /// The agent that has started this process; pid 0: it is gone.
  static base::ProcessId agent();
};

/// kNotFound in the words that Nomad's drivers share.
base::Error unknown_task(const TaskId& id);

}  // namespace driver
