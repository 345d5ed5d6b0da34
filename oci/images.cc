#include "oci/images.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "base/crew.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/log.h"
#include "base/process.h"
#include "base/sync.h"
#include "base/text.h"
#include "oci/environment.h"
#include "oci/platform.h"
#include "oci/pull_protocol.h"
#include "oci/reference.h"
#include "oci/store.h"

namespace oci {

namespace {

constexpr std::size_t kPullsMax = 8;  // helpers at once; more images wait for their turn
constexpr std::chrono::seconds kHelperStopTime{5};

/// One run of the helper, and those who wait for it.
struct Run {
  base::OneShot<base::Result<Image>> result;
  std::stop_source stop;
  int waiters = 0;  // guarded by Impl::runs
  base::Guarded<std::set<const PullRequest*>> listeners;
};
using OnEvent = std::function<void(const HelperEvent&)>;
using Confirm = std::function<base::Status(const base::Context&, const HelperResolved&)>;

/// Asks a verifier about what the helper has resolved, and keeps its approvals until the images are in the store.
class Approvals {
 public:
  explicit Approvals(const ImageVerifier* verifier) : verifier_(verifier) {}
  /// Empty without a verifier.
  Confirm confirm();
  /// Records them. An image that was replaced meanwhile gets none.
  base::Status record(const base::Context& ctx, Store& store) const;

 private:
  struct Approval {
    std::string reference;
    Digest digest;
    Verdict verdict;
  };
  const ImageVerifier* const verifier_;
  std::vector<Approval> approvals_;
};

base::Result<HelperDone> run_helper(const base::Context& ctx, const std::string& program, const HelperRequest& request,
                                    int archive_fd, const OnEvent& on_event, const Confirm& confirm);
Verdict verdict_of(const ImageVerifier& verifier, std::string word);
bool has_passed(const Image& image, const ImageVerifier* verifier);
base::Error replaced(const Image& image);

}  // namespace

struct Images::Impl {
  explicit Impl(ImagesOptions o) : options(std::move(o)), store(options.data_dir), collector(store, options.uses) {}

  base::Result<Image> find(const Reference& reference);
  base::Result<Image> find(const Reference& reference, const std::string& platform);
  base::Result<Image> join(const base::Context& ctx, const Reference& reference, const PullRequest& request);
  base::Result<std::shared_ptr<Run>> enter(const std::string& key, const HelperRequest& job, const Reference& reference,
                                           const PullRequest& request);
  void leave(const std::string& key, const std::shared_ptr<Run>& run, const PullRequest& request);
  base::Result<Image> execute(Run& run, const HelperRequest& request, const Reference& reference,
                              const ImageVerifier* verifier);

  const ImagesOptions options;
  Store store;
  Collector collector;
  base::Guarded<std::map<std::string, std::shared_ptr<Run>>> runs;
  base::Crew crew{{.name = "image pulls", .threads_max = kPullsMax}};  // last: its jobs use all of the above
};

// Absolute, because the helper runs in another directory, and layer_dirs are promised to be.
Images::Images(ImagesOptions options)
    : impl_(std::make_unique<Impl>(ImagesOptions{base::absolute_path(options.data_dir).value_or(options.data_dir),
                                                 std::move(options.helper), std::move(options.uses),
                                                 std::move(options.hosts_dir)})) {}

Images::~Images() {
  for (auto& [key, run] : *impl_->runs.lock()) run->stop.request_stop();
}

base::Result<Image> Images::ensure(const base::Context& ctx, const PullRequest& request) {
  TRY(const auto reference, Reference::parse(request.reference));
  TRY(const std::string platform, wanted_platform(request.platform));
  // A pull would fetch all of it, and then be unable to give it a name.
  const auto record = impl_->store.record(reference.canonical());
  if (!record && record.error().code != base::Code::kNotFound) return record.error();
  auto present = impl_->find(reference, platform);
  if (present || is_unreadable(present.error())) return present;
  if (present.error().code != base::Code::kNotFound) {
    LOG_WARN("the stored image is not usable, pulling it again",
             {{"image", reference.canonical()}, {"error", present.error().message}});
  }
  return impl_->join(ctx, reference, request);
}

base::Result<Image> Images::pull(const base::Context& ctx, const PullRequest& request) {
  TRY(const auto reference, Reference::parse(request.reference));
  return impl_->join(ctx, reference, request);
}

base::Status Images::check_login(const base::Context& ctx, const std::string& host, const Credentials& credentials) {
  TRY(const auto reference, Reference::parse(base::str(host, "/login/check")));
  HelperRequest request{impl_->options.data_dir, reference.canonical(), credentials, impl_->options.hosts_dir};
  request.login = true;
  TRY_VOID(run_helper(ctx, impl_->options.helper, request, -1, [](const HelperEvent&) {}, {}));
  return {};
}

base::Result<Loaded> Images::load(const base::Context& ctx, const base::Fd& fd, const std::string& name,
                                  const std::function<void(const PullProgress&)>& on_progress,
                                  const ImageVerifier* verifier, const std::string& platform) {
  TRY(std::string wanted, wanted_platform(platform));
  const HelperRequest request{impl_->options.data_dir, name, {}, "", true, verifier != nullptr, std::move(wanted)};
  const auto on_event = [&on_progress](const HelperEvent& event) {
    const auto* progress = std::get_if<PullProgress>(&event);
    if (progress != nullptr && on_progress) on_progress(*progress);
  };
  Approvals approvals(verifier);
  TRY(HelperDone done, run_helper(ctx, impl_->options.helper, request, fd.get(), on_event, approvals.confirm()));
  TRY_VOID(approvals.record(ctx, impl_->store));
  if (done.references.empty()) return base::Error::internal("the image helper did not say what it has loaded");
  return Loaded{std::move(done.references), std::move(done.left_out)};
}

base::Result<Verdict> Images::verify(const base::Context& ctx, const Image& image, const ImageVerifier& verifier) {
  if (has_passed(image, &verifier)) return *image.verdict;
  TRY(const auto record, impl_->store.record(image.reference));
  if (record.resolved_digest != image.resolved_digest || record.manifest_digest != image.manifest_digest) {
    return replaced(image);
  }
  Descriptor subject{record.resolved_media_type, record.resolved_digest, record.resolved_bytes, {}, false};
  // Older versions did not record what the index was: then the question is about what runs.
  if (record.resolved_media_type.empty()) {
    subject = {record.media_type, record.manifest_digest, record.manifest_bytes, {}, false};
  }
  TRY(std::string word, verifier.ask(ctx, image.reference, subject));
  const Verdict verdict = verdict_of(verifier, std::move(word));
  const auto recorded = impl_->store.put_verdict(ctx, image.reference, subject.digest, verdict);
  if (recorded) return verdict;
  return recorded.error().code == base::Code::kNotFound ? replaced(image) : recorded.error();
}

base::Result<Image> Images::find(const std::string& reference) {
  TRY(const auto parsed, Reference::parse(reference));
  return impl_->find(parsed);
}

base::Result<Image> Images::find(const std::string& reference, const std::string& platform) {
  TRY(const auto parsed, Reference::parse(reference));
  TRY(const std::string wanted, wanted_platform(platform));
  return impl_->find(parsed, wanted);
}

base::Result<std::vector<ImageSummary>> Images::list() {
  TRY(const auto records, impl_->store.records());
  std::vector<ImageSummary> out;
  for (const ImageRecord& record : records) {
    auto image = impl_->store.load(record);
    out.push_back({record.reference, record.manifest_digest, record.resolved_digest, image ? image->size_bytes : 0,
                   record.architecture, record.pulled_at_unix, record.verdict, image ? "" : image.error().message,
                   image ? image->config_digest : std::nullopt, record.pinned});
  }
  return out;
}

base::Result<base::Fd> Images::lease(const base::Context& ctx) {
  return impl_->store.lease(ctx, Store::Lease::kShared);
}

base::Result<GcReport> Images::collect(const base::Context& ctx, const GcRequest& request) {
  if (!impl_->options.uses) {
    return base::Error::failed_precondition("images cannot be collected: it is not known which are in use");
  }
  return impl_->collector.run(ctx, request);
}

base::Result<std::uint64_t> Images::free_bytes() const {
  TRY(const GcDisk disk, measure_disk(impl_->options.data_dir));
  return disk.bytes_free;
}

base::Result<Image> Images::Impl::find(const Reference& reference) {
  TRY(const auto record, store.record(reference.canonical()));
  auto image = store.load(record);
  if (image) store.touch(record);
  return image;
}

base::Result<Image> Images::Impl::find(const Reference& reference, const std::string& platform) {
  TRY(const auto record, store.record(reference.canonical()));
  if (record.platform != platform) {
    const auto name_of = [](const std::string& name) { return name.empty() ? to_string(host_platform()) : name; };
    return base::Error::not_found(base::str("image ", record.reference, " is in the store for ",
                                            name_of(record.platform), ", not for ", name_of(platform)));
  }
  return find(reference);
}

base::Result<Image> Images::Impl::join(const base::Context& ctx, const Reference& reference,
                                       const PullRequest& request) {
  TRY_VOID(store.check_room(reference.canonical()));
  // Callers with other credentials must be refused or served on their own account, and verified by whom they trust.
  TRY(std::string platform, wanted_platform(request.platform));
  const HelperRequest job{options.data_dir,
                          reference.canonical(),
                          request.credentials,
                          options.hosts_dir,
                          false,
                          request.verifier != nullptr,
                          std::move(platform)};
  TRY(std::string key, encode(job));
  if (request.verifier) key += request.verifier->id;
  TRY(const auto run, enter(key, job, reference, request));
  auto result = run->result.wait(ctx.with_timeout(request.timeout));
  leave(key, run, request);
  if (result) return *std::move(result);
  return std::move(result).error().wrap(base::str("pulling ", reference.canonical(), " did not finish"));
}

// A run has a thread of its own: a caller may leave early while others still wait for the image.
base::Result<std::shared_ptr<Run>> Images::Impl::enter(const std::string& key, const HelperRequest& job,
                                                       const Reference& reference, const PullRequest& request) {
  auto all = runs.lock();
  std::shared_ptr<Run>& run = (*all)[key];
  if (!run) {
    run = std::make_shared<Run>();
    auto submitted = crew.submit("pull", [this, run = run, job, reference, verifier = request.verifier] {
      run->result.set(execute(*run, job, reference, verifier.get()));
    });
    if (!submitted) {
      all->erase(key);
      return std::move(submitted).error();
    }
  }
  if (run->waiters++ > 0 && request.on_shared) request.on_shared();
  run->listeners.lock()->insert(&request);
  return run;
}

void Images::Impl::leave(const std::string& key, const std::shared_ptr<Run>& run, const PullRequest& request) {
  run->listeners.lock()->erase(&request);  // waits for a call of it that is under way
  auto all = runs.lock();
  --run->waiters;
  if (run->waiters > 0 && !run->result.ready()) return;
  // It has ended, or nobody wants it: the next caller starts a new one.
  if (const auto found = all->find(key); found != all->end() && found->second == run) all->erase(found);
  run->stop.request_stop();
}

base::Result<Image> Images::Impl::execute(Run& run, const HelperRequest& request, const Reference& reference,
                                          const ImageVerifier* verifier) {
  const auto ctx = base::Context::background().with_stop(run.stop.get_token());
  TRY_VOID(ctx.check());
  const auto publish = [&run](const HelperEvent& event) {
    const auto* progress = std::get_if<PullProgress>(&event);
    const auto* warning = std::get_if<HelperWarning>(&event);
    for (auto listeners = run.listeners.lock(); const PullRequest* listener : *listeners) {
      if (progress != nullptr && listener->on_progress) listener->on_progress(*progress);
      if (warning != nullptr && listener->on_warning) listener->on_warning(warning->text);
    }
  };
  // A collection may remove the image as soon as the pull has ended, before anybody uses it, and another process may
  // pull the same name without a verifier: then once more.
  for (int attempt = 0;; ++attempt) {
    Approvals approvals(verifier);
    TRY_VOID(run_helper(ctx, options.helper, request, -1, publish, approvals.confirm()));
    TRY_VOID(approvals.record(ctx, store));
    auto image = find(reference, request.platform);
    if (image && !has_passed(*image, verifier)) image = replaced(*image);
    const bool again =
        !image && (image.error().code == base::Code::kNotFound || image.error().code == base::Code::kAborted);
    if (!again || attempt > 0) return image;
  }
}

namespace {

constexpr std::size_t kImagesOfOneRunMax = 1000;  // more than an archive may have entries for

Confirm Approvals::confirm() {
  if (verifier_ == nullptr) return {};
  return [this](const base::Context& ctx, const HelperResolved& resolved) -> base::Status {
    if (approvals_.size() == kImagesOfOneRunMax) {
      return base::Error::resource_exhausted(
          base::str("the image helper asks about more than ", kImagesOfOneRunMax, " images in one run"));
    }
    TRY(std::string word, verifier_->ask(ctx, resolved.reference, resolved.image));
    approvals_.push_back({resolved.reference, resolved.image.digest, verdict_of(*verifier_, std::move(word))});
    return {};
  };
}

base::Status Approvals::record(const base::Context& ctx, Store& store) const {
  if (verifier_ != nullptr && approvals_.empty()) {
    return base::Error::failed_precondition(
        "the image helper fetched an image without asking for approval; install the helper of this version");
  }
  for (const Approval& approval : approvals_) {
    const auto recorded = store.put_verdict(ctx, approval.reference, approval.digest, approval.verdict);
    if (!recorded && recorded.error().code != base::Code::kNotFound) return recorded.error();
  }
  return {};
}

Verdict verdict_of(const ImageVerifier& verifier, std::string word) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return {verifier.id, std::move(word), std::chrono::duration_cast<std::chrono::seconds>(now).count()};
}

bool has_passed(const Image& image, const ImageVerifier* verifier) {
  return verifier == nullptr || (image.verdict && image.verdict->verifiers == verifier->id);
}

base::Error replaced(const Image& image) {
  return base::Error::aborted(base::str("image ", image.reference, " was replaced while it was verified; try again"));
}

/// The helper's side of the conversation: lines in, events out.
class EventReader {
 public:
  explicit EventReader(int fd) : fd_(fd) {}
  /// nullopt at the end of the stream.
  base::Result<std::optional<HelperEvent>> next(const base::Context& ctx);

 private:
  const int fd_;
  std::string buffer_;
  std::size_t searched_ = 0;  // no newline up to here
};

base::Result<std::optional<HelperEvent>> EventReader::next(const base::Context& ctx) {
  for (;;) {
    if (const auto end = buffer_.find('\n', searched_); end != std::string::npos) {
      TRY(auto event, decode_event(std::string_view(buffer_).substr(0, end)));
      buffer_.erase(0, end + 1);
      searched_ = 0;
      return std::optional<HelperEvent>(std::move(event));
    }
    searched_ = buffer_.size();
    if (buffer_.size() > kHelperLineBytesMax) {
      return base::Error::internal(
          base::str("the image helper sent a line of more than ", kHelperLineBytesMax, " bytes"));
    }
    char chunk[4096];
    TRY(const std::size_t size, base::read_some(ctx, fd_, chunk));
    if (size == 0) return std::optional<HelperEvent>();
    buffer_.append(chunk, size);
  }
}

base::Status answer(const base::Context& ctx, const base::Fd& input, const HelperResolved& resolved,
                    const Confirm& confirm) {
  if (!confirm) return base::Error::internal("the image helper asked for an approval although there is no verifier");
  TRY_VOID(confirm(ctx, resolved));
  auto sent = base::write_all(ctx, input.get(), base::str(kHelperGo, "\n"));
  if (sent || sent.error().code == base::Code::kUnavailable) return {};  // if it has died, its output says why
  return std::move(sent).error();
}

struct Helper {
  base::Process process;
  base::Fd input;
  base::Fd output;
  base::Fd complaints;  ///< its standard error, which never blocks
};

/// What the helper reported when it was done, or its error; nothing if it ended without either.
base::Result<std::optional<HelperDone>> read_events(const base::Context& ctx, const Helper& helper,
                                                    const OnEvent& on_event, const Confirm& confirm) {
  EventReader reader(helper.output.get());
  for (;;) {
    TRY(auto event, reader.next(ctx));
    if (!event) return std::optional<HelperDone>();
    on_event(*event);
    if (auto* warning = std::get_if<HelperWarning>(&*event)) {
      LOG_WARN("warning of the image helper", {{"warning", warning->text}});
    }
    if (auto* resolved = std::get_if<HelperResolved>(&*event)) TRY_VOID(answer(ctx, helper.input, *resolved, confirm));
    if (auto* error = std::get_if<base::Error>(&*event)) return std::move(*error);
    if (auto* done = std::get_if<HelperDone>(&*event)) return std::optional<HelperDone>(std::move(*done));
  }
}

base::Result<Helper> start_helper(const std::string& program, int archive_fd) {
  TRY(auto input, base::make_pipe());
  TRY(auto output, base::make_pipe());
  // Not our standard error, which may be a terminal, or what the agent reads its log from: whatever an image made of
  // the helper could write there. What a full pipe does not take is lost.
  TRY(auto complaints, base::make_pipe());
  for (const base::Fd* end : {&complaints.read_end, &complaints.write_end}) {
    if (::fcntl(end->get(), F_SETFL, O_NONBLOCK) != 0) return base::Error::from_errno(errno, "a pipe");
  }
  base::SpawnOptions spawn;
  spawn.argv = {program};
  spawn.env = network_environment();
  spawn.stdin_fd = input.read_end.get();
  spawn.stdout_fd = output.write_end.get();
  spawn.stderr_fd = complaints.write_end.get();
  if (archive_fd >= 0) spawn.extra_fds = {archive_fd};  // becomes kArchiveFd
  spawn.new_session = true;                             // no terminal, and a process group of its own
  spawn.die_with_parent = true;
  auto process = base::Process::spawn(spawn);
  if (!process) {
    base::Error error =
        std::move(process).error().recode(base::Code::kFailedPrecondition).wrap("the image helper cannot be started");
    if (error.sys_errno == ENOENT) error.message += "; install it beside this program";
    return error;
  }
  return Helper{*std::move(process), std::move(input.write_end), std::move(output.read_end),
                std::move(complaints.read_end)};
}

// Nothing, as a rule: what a C library says before it aborts.
void log_complaints(const Helper& helper) {
  char text[1024];
  const ssize_t size = ::read(helper.complaints.get(), text, sizeof text);
  if (size <= 0) return;
  const std::string_view said(text, static_cast<std::size_t>(size));
  LOG_WARN("the image helper wrote to its standard error", {{"text", base::printable(said)}});
}

// SIGTERM first, so that it removes what it has unpacked so far; then SIGKILL to all of its process group.
void stop_helper(base::Process& process) {
  ::kill(-process.pid(), SIGTERM);
  if (process.wait(base::Context::background().with_timeout(kHelperStopTime))) return;
  ::kill(-process.pid(), SIGKILL);
  [[maybe_unused]] const auto status = process.wait(base::Context::cleanup());
}

base::Result<HelperDone> run_helper(const base::Context& ctx, const std::string& program, const HelperRequest& request,
                                    int archive_fd, const OnEvent& on_event, const Confirm& confirm) {
  TRY(const std::string line, encode(request));
  TRY(auto helper, start_helper(program, archive_fd));
  auto sent = base::write_all(ctx, helper.input.get(), line);
  if (!confirm) helper.input.reset();
  base::Result<std::optional<HelperDone>> outcome = std::optional<HelperDone>();
  if (sent || sent.error().code == base::Code::kUnavailable) {  // it may have died, or refused without reading
    outcome = read_events(ctx, helper, on_event, confirm);
  } else {
    outcome = std::move(sent).error();
  }
  if (!outcome || *outcome) {
    stop_helper(helper.process);
    log_complaints(helper);
    if (!outcome) return std::move(outcome).error();
    return **std::move(outcome);
  }
  TRY(const auto exit, helper.process.wait(base::Context::cleanup()));
  log_complaints(helper);
  return base::Error::internal(exit.signal != 0
                                   ? base::str("the image helper was killed by ", base::signal_name(exit.signal))
                                   : base::str("the image helper exited with ", exit.exit_code, " unexpectedly"));
}

}  // namespace

}  // namespace oci
