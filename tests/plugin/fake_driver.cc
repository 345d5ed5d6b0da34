#include "tests/plugin/fake_driver.h"

#include <atomic>
#include <utility>

namespace tests {

base::Guarded<std::vector<std::shared_ptr<FakeExec>>>& execs();

namespace {
std::atomic<int> g_subscriptions{0};
base::Hub<std::pair<std::string, driver::ExitResult>>& exits() {
  static base::Hub<std::pair<std::string, driver::ExitResult>> hub;
  return hub;
}

/// `subscription`, counted while it is held.
base::Subscription counted(base::Subscription subscription) {
  ++g_subscriptions;
  auto held = std::make_shared<base::Subscription>(std::move(subscription));
  return base::Subscription([held] {
    held->reset();
    --g_subscriptions;
  });
}
}  // namespace

base::Guarded<FakeDriver>& fake() {
  static base::Guarded<FakeDriver> state;
  return state;
}
void reset_fake() {
  *fake().lock() = FakeDriver();
  // Their callbacks hold the calls, which hold them: the real ones drop theirs when the command has ended.
  const auto all = std::exchange(*execs().lock(), {});
  for (const auto& exec : all) exec->callbacks = {};
}

base::Guarded<std::vector<std::shared_ptr<FakeExec>>>& execs() {
  static base::Guarded<std::vector<std::shared_ptr<FakeExec>>> all;
  return all;
}
std::shared_ptr<FakeExec> last_exec() {
  auto all = execs().lock();
  return all->empty() ? nullptr : all->back();
}
bool FakeExec::write_stdin(std::string_view data) {
  told.lock()->push_back(base::str("stdin ", data));
  return !stdin_full;
}
void FakeExec::close_stdin() {
  told.lock()->push_back("eof");
}
void FakeExec::resize(driver::TerminalSize size) {
  told.lock()->push_back(base::str("resize ", size.height, "x", size.width));
}
void FakeExec::resume_output() {
  told.lock()->push_back("resume");
}
void FakeExec::heartbeat() {
  told.lock()->push_back("heartbeat");
}
void FakeExec::cancel() {
  told.lock()->push_back("cancel");
}

base::Hub<driver::Fingerprint>& fingerprints() {
  static base::Hub<driver::Fingerprint> hub;
  return hub;
}
base::Hub<driver::TaskEvent>& events() {
  static base::Hub<driver::TaskEvent> hub;
  return hub;
}
base::Hub<driver::TaskStats>& samples() {
  static base::Hub<driver::TaskStats> hub;
  return hub;
}
int subscriptions() {
  return g_subscriptions.load();
}

void end_task(const std::string& id, const driver::ExitResult& exit) {
  fake().lock()->tasks[id].exit = exit;
  exits().publish({id, exit});
}

}  // namespace tests

namespace driver {

using tests::fake;

struct Driver::Impl {};

Driver::Driver(base::Loop&, base::Crew&) {}
Driver::~Driver() = default;

base::Status Driver::configure(PluginOptions options, NodeInfo node) {
  auto state = fake().lock();
  state->calls.push_back("configure");
  if (state->configure_error) return *state->configure_error;
  state->options = std::move(options);
  state->node = node;
  return {};
}

std::shared_ptr<const PluginOptions> Driver::options() const {
  return std::make_shared<const PluginOptions>(fake().lock()->options.value_or(PluginOptions()));
}

base::Result<GroupNetwork> Driver::create_network(const base::Context&, const std::string& alloc_id,
                                                  const std::string& hostname) {
  auto state = fake().lock();
  state->calls.push_back(base::str("create network ", alloc_id, " ", hostname));
  const bool created = state->networks.insert(alloc_id).second;
  return GroupNetwork{"/netns/" + alloc_id, created};
}

base::Status Driver::destroy_network(const base::Context&, const std::string& alloc_id) {
  auto state = fake().lock();
  state->calls.push_back(base::str("destroy network ", alloc_id));
  state->networks.erase(alloc_id);
  return {};
}

base::Subscription Driver::watch_fingerprint(std::function<void(const Fingerprint&)> callback) {
  callback({{{"driver.containerd-driver.version", "1.2.3"}, {"odd", "\xff"}}, Health::kHealthy, "healthy"});
  return tests::fingerprints().subscribe(std::move(callback));
}

base::Result<StartedTask> Driver::start(const base::Context& ctx, const TaskSpec& spec) {
  bool blocks = false;
  {
    auto state = fake().lock();
    state->calls.push_back("start " + spec.id.text);
    if (state->start_error) return *state->start_error;
    blocks = state->start_blocks;
  }
  if (blocks) {
    TRY_VOID(ctx.sleep(std::chrono::seconds(60)));
  }
  fake().lock()->tasks[spec.id.text].spec = spec;
  return StartedTask{"state of " + spec.id.text};
}

base::Status Driver::recover(const base::Context&, const TaskId& id, const std::string& driver_state) {
  fake().lock()->calls.push_back(base::str("recover ", id.text, " with ", driver_state.size(), " bytes"));
  fake().lock()->tasks[id.text];
  return {};
}

base::Result<base::Subscription> Driver::wait(const TaskId& id, std::function<void(const ExitResult&)> callback) {
  std::optional<ExitResult> exit;
  {
    auto state = fake().lock();
    const auto task = state->tasks.find(id.text);
    if (task == state->tasks.end()) return base::Error::not_found("task not found for given id");
    exit = task->second.exit;
  }
  if (exit) {
    callback(*exit);
    return base::Subscription();
  }
  return tests::counted(tests::exits().subscribe([id, callback](const auto& ended) {
    if (ended.first == id.text) callback(ended.second);
  }));
}

base::Result<base::Subscription> Driver::stop(const TaskId& id, std::chrono::nanoseconds timeout,
                                              const std::string& signal,
                                              std::function<void(const base::Status&)> on_done) {
  fake().lock()->calls.push_back(base::str("stop ", id.text, " ", timeout.count() / 1'000'000, " ms ", signal));
  if (id.text == "immortal") {
    on_done(base::Error::deadline_exceeded("pid 7 did not die of SIGKILL"));
    return base::Subscription();
  }
  if (!id.text.starts_with("stubborn")) {
    on_done({});
    return base::Subscription();
  }
  return tests::counted(tests::exits().subscribe([id, on_done](const auto& ended) {
    if (ended.first == id.text) on_done({});
  }));
}

base::Status Driver::destroy(const base::Context&, const TaskId& id, bool force) {
  if (id.text == "deaf") {
    TRY_VOID(base::Context::background().sleep(std::chrono::seconds(60)));  // whatever the caller's context says
  }
  auto state = fake().lock();
  state->calls.push_back(base::str("destroy ", id.text, force ? " force" : ""));
  if (!force) return base::Error::failed_precondition("the task runs");
  state->tasks.erase(id.text);
  return {};
}

base::Result<TaskStatus> Driver::inspect(const TaskId& id) {
  auto state = fake().lock();
  if (!state->tasks.contains(id.text)) return base::Error::not_found("task not found for given id");
  auto status = state->status;
  status.id = id;
  return status;
}

base::Status Driver::signal(const base::Context&, const TaskId& id, const std::string& name) {
  fake().lock()->calls.push_back(base::str("signal ", id.text, " ", name));
  if (name != "SIGHUP") return base::Error::invalid_argument("Invalid signal: " + name);
  return {};
}

base::Result<std::shared_ptr<ExecSession>> Driver::exec(const TaskId& id, ExecSpec spec, ExecCallbacks callbacks) {
  auto state = fake().lock();
  std::string line = "exec " + id.text;
  for (const auto& word : spec.command) line += " [" + word + "]";
  state->calls.push_back(line);
  if (state->exec_error) return *state->exec_error;
  auto exec = std::make_shared<tests::FakeExec>();
  exec->spec = std::move(spec);
  exec->callbacks = std::move(callbacks);
  tests::execs().lock()->push_back(exec);
  return std::shared_ptr<ExecSession>(exec);
}

base::Result<base::Subscription> Driver::stats(const TaskId& id, std::chrono::nanoseconds interval,
                                               std::function<void(const TaskStats&)> callback,
                                               std::function<void()> on_end) {
  {
    auto state = fake().lock();
    state->calls.push_back(base::str("stats ", id.text, " ", interval.count() / 1'000'000, " ms"));
    if (!state->tasks.contains(id.text)) return base::Error::not_found("task not found for given id");
  }
  callback(TaskStats{});
  auto end = std::make_shared<base::Subscription>(tests::exits().subscribe([id, on_end](const auto& ended) {
    if (ended.first == id.text) on_end();
  }));
  auto more = std::make_shared<base::Subscription>(tests::samples().subscribe(std::move(callback)));
  return tests::counted(base::Subscription([end, more] {
    end->reset();
    more->reset();
  }));
}

base::Subscription Driver::events(std::function<void(const TaskEvent&)> callback) {
  return tests::events().subscribe(std::move(callback));
}

}  // namespace driver
