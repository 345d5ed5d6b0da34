#include "driver/life/task.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "base/fault.h"
#include "base/log.h"
#include "driver/host/oom.h"
#include "driver/host/stats.h"
#include "driver/life/exec_process.h"
#include "driver/life/task_store.h"
#include "driver/net/networks.h"

namespace driver {

namespace {
using base::Context;
using base::str;
using std::chrono::milliseconds;
using std::chrono::seconds;

// A shim that lives but does not answer is asked again after these times, and then always after the last.
constexpr std::array<seconds, 5> kRetryDelays = {seconds(1), seconds(2), seconds(5), seconds(10), seconds(30)};
constexpr std::array<milliseconds, 4> kOomLookDelays = {milliseconds(20), milliseconds(200), seconds(2), seconds(10)};
// A hung shim degrades its own task only: it holds a background thread for this long.
constexpr seconds kRecoverAdoptTimeout{2};
constexpr seconds kKillLostTimeout{15};
constexpr seconds kClearTimeout{30};        // of commands that an earlier process ran
constexpr std::uint32_t kSignalBase = 128;  // shells' and shims' convention: 128 + signal
constexpr std::uint32_t kSignalMax = 64;
}  // namespace

Task::Task(base::Loop& loop, base::Crew& background, base::Hub<TaskEvent>& events, Record record,
           std::shared_ptr<shim::Shim> shim, RecordWriter write)
    : loop_(loop),
      background_(background),
      events_(events),
      write_(std::move(write)),
      record_(std::move(record)),
      shim_(std::move(shim)),
      retry_timer_(std::make_shared<std::unique_ptr<base::Timer>>()),
      oom_timer_(std::make_shared<std::unique_ptr<base::Timer>>()) {
  auto held = record_.lock();
  if (held->phase == Phase::kExited && held->exit) exit_.set(*held->exit);
}

Task::~Task() {
  loop_.post([retry = retry_timer_, oom = oom_timer_] {
    retry->reset();
    oom->reset();
  });
}

void Task::watch_exit() {
  const auto shim = this->shim();
  CHECK(shim != nullptr);
  // The callback comes on the loop thread, which must not touch files: the rest happens in the background.
  shim->wait("", [weak = weak_from_this()](base::Result<shim::ContainerExit> answer) {
    const auto task = weak.lock();
    if (!task) return;
    auto shared = std::make_shared<base::Result<shim::ContainerExit>>(std::move(answer));
    const auto queued =
        task->background_.submit("task exit", [task, shared] { task->shim_answered(std::move(*shared)); });
    if (!queued)
      LOG_ERROR("cannot handle a task's exit", {{"task", task->record().id.text}, {"error", queued.error().message}});
  });
}

void Task::take_over() {
  watch_exit();
  const auto queued = background_.submit("old execs", [record = record(), shim = shim()] {
    clear_orphaned_execs(Context::background().with_timeout(kClearTimeout), *shim, record);
  });
  if (!queued)
    LOG_WARN("cannot look for old commands", {{"task", record().id.text}, {"error", queued.error().message}});
}

void Task::retry_adoption(base::Error why) {
  const auto queued =
      background_.submit("adopt", [task = shared_from_this(), why = std::move(why)] { task->shim_lost(why); });
  if (!queued) LOG_ERROR("cannot look after a task", {{"task", record().id.text}, {"error", queued.error().message}});
}

base::Status Task::mark_running() {
  return change_record([](Record& record) {
    if (record.phase == Phase::kExited) return false;  // it was that fast; the exit is already on disk
    record.phase = Phase::kRunning;
    record.started_at = std::chrono::system_clock::now();
    return true;
  });
}

// Written first, then shown: whoever has seen a task's end finds it on disk. The lock that readers take, the loop among
// them, is not held meanwhile: a disk may take seconds.
base::Status Task::change_record(const std::function<bool(Record&)>& change) {
  const std::lock_guard writing(writing_);
  Record next = record();
  if (!change(next)) return {};
  auto written = write_(next);
  *record_.lock() = std::move(next);
  return written;
}

base::Subscription Task::on_exit(std::function<void(const ExitResult&)> callback) {
  // Subscribe first, then look: an exit in between must not be missed, and is told once.
  auto told = std::make_shared<std::atomic<bool>>(false);
  auto once = [told, callback = std::move(callback)](const ExitResult& exit) {
    if (!told->exchange(true)) callback(exit);
  };
  base::Subscription subscription = exits_.subscribe(once);
  if (exit_.ready()) once(*exit_.wait(Context::background()));
  return subscription;
}

base::Result<ExitResult> Task::wait_exit(const Context& ctx) {
  return exit_.wait(ctx);
}

// The pidfd means the same as `runc kill` and costs no process.
base::Result<base::Fd> Task::send_signal(const Context& ctx, int signal) {
  const Record record = this->record();
  if (record.phase == Phase::kExited) return base::Error::not_found("the task has ended");
  const auto shim = this->shim();
  if (record.init.pid == 0 && shim) {
    TRY_VOID(shim->kill(ctx, "", signal, false));
    return base::Fd();
  }
  auto init = base::open_pidfd(record.init);
  if (!init && init.error().code == base::Code::kNotFound) return base::Error::not_found("the task has ended");
  if (init) TRY_VOID(base::send_signal(init->get(), signal));
  return init;
}

void Task::tell(std::string message, std::map<std::string, std::string> annotations) {
  TaskEvent event;
  {
    auto record = record_.lock();
    event = {record->id, record->alloc_id, record->name, std::chrono::system_clock::now(), {}, {}};
  }
  event.message = std::move(message);
  event.annotations = std::move(annotations);
  events_.publish(event);
}

void Task::look_for_oom() {
  look_for_oom_again(0);
}

// The event says that the limit was hit; the kill is counted a moment later, on a busy machine much later.
void Task::look_for_oom_again(std::size_t looks) {
  const auto look = [task = shared_from_this(), looks] {
    if (task->exit_.ready() || task->tell_oom(false) > 0 || looks == kOomLookDelays.size()) return;
    task->loop_.post([task, timer = task->oom_timer_, looks] {
      *timer = std::make_unique<base::Timer>(task->loop_, kOomLookDelays[looks], milliseconds(0),
                                             [weak = task->weak_from_this(), looks] {
                                               if (const auto held = weak.lock()) held->look_for_oom_again(looks + 1);
                                             });
    });
  };
  const auto queued = background_.submit("oom", look);
  if (!queued) LOG_DEBUG("cannot look for OOM kills", {{"task", record().id.text}, {"error", queued.error().message}});
}

// The first kill is told when it happens, the sum of many at the end: a task may lose a worker a second for days.
std::uint64_t Task::tell_oom(bool ended) {
  const std::string path = record().names.cgroup_path;
  auto report = read_oom_report({.mode = detect_cgroup_mode(), .path = path});
  if (!report || report->kills == 0) return 0;
  {
    auto told = oom_kills_told_.lock();
    if (*told > 0 && (!ended || *told == report->kills)) return report->kills;
    *told = report->kills;
  }
  report->victim = find_oom_victim(path);
  const std::string message = oom_message(*report);
  LOG_INFO("oom", {{"task", record().id.text}, {"message", message}});
  tell(message, {{"oom_kills", str(report->kills)}});
  return report->kills;
}

void Task::shim_answered(base::Result<shim::ContainerExit> answer) {
  if (!answer) return shim_lost(answer.error());
  ExitResult exit = exit_from_status(answer->exit_status);
  // The cgroup keeps its counters until the container is deleted, which nobody does before the exit is known.
  exit.oom_killed = tell_oom(true) > 0;
  if (exit.oom_killed && exit.exit_code != 0) exit.error = "OOM Killed";
  finish(std::move(exit), answer->exited_at);
}

// The connection ended before the container did. If the shim still lives it was only the connection, or the shim is
// slow, which says nothing of its task.
void Task::shim_lost(const base::Error& why) {
  if (ending_) return finish({137, 9, false, "killed while being destroyed"}, std::nullopt);
  const Record record = this->record();
  if (record.phase == Phase::kExited || adopt_again(record)) return;
  if (base::has_ended(record.shim)) return abandon_shim(why);
  LOG_WARN("the shim of a task does not answer, will ask again",
           {{"task", record.id.text}, {"shim_pid", record.shim.pid}, {"error", why.message}});
  retry_later();
}

// Without its shim a container runs unsupervised, its output goes nowhere and nobody will ever know its exit: it is
// killed.
void Task::abandon_shim(const base::Error& why) {
  const Record record = this->record();
  LOG_WARN("a task lost its shim, killing it",
           {{"task", record.id.text}, {"shim_pid", record.shim.pid}, {"error", why.message}});
  shim_.lock()->reset();
  const auto killed = shim::delete_forced(Context::background().with_timeout(kKillLostTimeout), record.shim_options(),
                                          record.names.shim(), record.shim);
  if (!killed)
    LOG_ERROR("cannot kill a task that lost its shim", {{"task", record.id.text}, {"error", killed.error().message}});
  finish(
      {137, 9, false, str("the shim (pid ", record.shim.pid, ") died; the task was killed, its own exit is unknown")},
      std::nullopt);
}

bool Task::adopt_again(const Record& record) {
  if (base::has_ended(record.shim)) return false;
  auto shim = shim::Shim::adopt(Context::background().with_timeout(kRecoverAdoptTimeout), loop_, record.shim_options(),
                                record.names.shim());
  if (!shim) return false;
  *shim_.lock() = *shim;
  take_over();
  return true;
}

void Task::retry_later() {
  const seconds delay = kRetryDelays[std::min<std::size_t>(retries_++, kRetryDelays.size() - 1)];
  loop_.post([weak = weak_from_this(), timer = retry_timer_, delay] {
    const auto self = weak.lock();
    if (!self) return;
    *timer = std::make_unique<base::Timer>(self->loop_, delay, std::chrono::milliseconds(0), [weak] {
      if (const auto task = weak.lock()) task->retry_adoption(base::Error::deadline_exceeded("no answer so far"));
    });
  });
}

void Task::finish(ExitResult exit, std::optional<WallTime> exited_at) {
  bool first = false;
  const auto written = change_record([&](Record& record) {
    first = record.phase != Phase::kExited;
    record.phase = Phase::kExited;
    record.exit = exit;
    record.exited_at = exited_at.value_or(std::chrono::system_clock::now());
    // A task can end before its start is noted; the exit's time is the shim's.
    if (!record.started_at || *record.started_at > *record.exited_at) record.started_at = record.exited_at;
    return first;
  });
  if (!first) return;
  const std::string id = record().id.text;
  const bool removed = !written && written.error().sys_errno == ENOENT;  // by another process
  if (!written && !removed && !ending_) {
    LOG_WARN("cannot write a task's exit", {{"task", id}, {"error", written.error().message}});
  }
  LOG_INFO("task ended",
           {{"task", id}, {"exit_code", exit.exit_code}, {"signal", exit.signal}, {"oom_killed", exit.oom_killed}});
  exit_.set(exit);
  exits_.publish(exit);
  give_back_its_network();
}

// Its addresses and ports are free when it has ended, not when somebody removes it.
void Task::give_back_its_network() {
  const Record record = this->record();
  const std::string data_dir = std::filesystem::path(record.names.task_dir).parent_path().parent_path();
  const auto given = give_back_network(Context::cleanup(), data_dir, record.names.container_id);
  if (given) return;
  LOG_WARN("cannot give back a task's network, will try again",
           {{"task", record.id.text}, {"error", given.error().message}});
}

ExitResult exit_from_status(std::uint32_t exit_status) {
  ExitResult exit;
  exit.exit_code = static_cast<int>(exit_status);
  if (exit_status > kSignalBase && exit_status <= kSignalBase + kSignalMax) {
    exit.signal = static_cast<int>(exit_status - kSignalBase);
  }
  return exit;
}

}  // namespace driver
