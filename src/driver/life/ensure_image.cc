#include "driver/life/ensure_image.h"

#include <iomanip>
#include <sstream>
#include <utility>

#include "base/log.h"
#include "driver/image/archive.h"
#include "driver/image/collection.h"
#include "driver/image/credentials.h"
#include "driver/image/verifier.h"
#include "driver/life/task_store.h"
#include "oci/platform.h"
#include "oci/reference.h"

namespace driver {

namespace {
using base::Context;
using base::Result;
using base::Status;
using base::str;
using std::chrono::seconds;

constexpr std::uint64_t kUnpackedFactor = 3;  // compressed bytes plus what they commonly unpack to
constexpr std::size_t kShortDigestBytes = 12;

/// Null: nobody is asked.
using Verifier = std::shared_ptr<const oci::ImageVerifier>;

Result<oci::Image> look_or_pull(const Context& ctx, const StartDeps& deps, const TaskSpec& spec,
                                const Verifier& verifier);
Result<oci::Image> pull(const Context& ctx, const StartDeps& deps, const TaskSpec& spec, const Verifier& verifier,
                        const std::string& local_digest);
Result<oci::Image> load(const Context& ctx, const StartDeps& deps, const TaskSpec& spec, const ArchiveSource& source,
                        const Verifier& verifier);
Status verify(const Context& ctx, const StartDeps& deps, const TaskSpec& spec, const Verifier& verifier,
              oci::Image& image);
Status keep(const StartDeps& deps, const TaskSpec& spec, const oci::Image& image, Record& record);
bool registry_unreachable(const base::Error& error);
void make_room(const StartDeps& deps, std::uint64_t bytes);
std::string show_digest(const oci::Image& image);
std::string show_platform(const oci::Image& image);
std::string show_mb(std::uint64_t bytes);
}  // namespace

Result<oci::Image> ensure_image(const Context& ctx, const StartDeps& deps, const TaskSpec& spec, Record& record) {
  TRY(const Verifier verifier, find_image_verifier(deps.options.image_verifier));
  for (;;) {
    TRY(oci::Image image, look_or_pull(ctx, deps, spec, verifier));
    TRY_VOID(verify(ctx, deps, spec, verifier, image));
    const Status kept = keep(deps, spec, image, record);
    if (kept) return image;
    // Collected between the pull and the lease: seconds after its use, so only by hand.
    if (kept.error().code != base::Code::kNotFound || spec.options.image_pull_policy == PullPolicy::kNever) {
      return kept.error();
    }
    TRY_VOID(ctx.check());
  }
}

bool asks_registry(PullPolicy policy, const std::string& reference) {
  if (policy == PullPolicy::kMissing || policy == PullPolicy::kNever) return false;
  const auto parsed = oci::Reference::parse(reference);
  if (!parsed || parsed->digest()) return false;  // what a digest names never changes
  return policy == PullPolicy::kAlways || parsed->tag() == "latest";
}

seconds progress_time(unsigned n) {
  if (n == 0) return seconds(15);
  return seconds(60) + (n - 1) * std::chrono::minutes(5);
}

std::string show_progress(const oci::PullProgress& progress, std::chrono::duration<double> elapsed) {
  const double mb_per_second = static_cast<double>(progress.bytes_done) / 1e6 / std::max(elapsed.count(), 0.001);
  std::ostringstream speed;
  speed << std::fixed << std::setprecision(1) << mb_per_second;
  return str(show_mb(progress.bytes_done), "/", show_mb(progress.bytes_total), " MB, ", progress.layers_done, "/",
             progress.layers_total, " layers, ", speed.str(), " MB/s");
}

namespace {

Result<oci::Image> look_or_pull(const Context& ctx, const StartDeps& deps, const TaskSpec& spec,
                                const Verifier& verifier) {
  const TaskOptions& options = spec.options;
  if (const auto archive = archive_source(options.image)) return load(ctx, deps, spec, *archive, verifier);
  auto present = deps.images.find(options.image, options.platform);
  if (!present && options.image_pull_policy == PullPolicy::kNever) {
    return base::Error::not_found(str("image ", options.image,
                                      " is not on this node, and image_pull_policy = \"never\" forbids to fetch it: ",
                                      "fetch it with `containerd-driver pull`, or use \"missing\""));
  }
  const bool ask = asks_registry(options.image_pull_policy, options.image);
  const std::string digest = present ? present->resolved_digest.text() : "";
  if (present && !ask) {
    // What a restarted task would be told each time says nothing, unless it is not what it ran on before.
    if (deps.news.hear(spec, "image", digest) == News::Heard::kChanged) {
      deps.emit_event(spec, str("Using local image ", options.image, " (", show_digest(*present), ")"),
                      {{"image", present->reference}, {"digest", digest}});
    }
    return present;
  }
  auto pulled = pull(ctx, deps, spec, verifier, digest);
  if (pulled) {
    deps.news.hear(spec, "image", pulled->resolved_digest.text());
    deps.news.hear(spec, "registry", "");
  }
  if (pulled || !present || options.image_pull_policy == PullPolicy::kAlways || !registry_unreachable(pulled.error())) {
    return pulled;
  }
  if (deps.news.hear(spec, "registry", digest) != News::Heard::kSame) {
    deps.emit_event(spec,
                    str("Using local image ", options.image, " (", show_digest(*present),
                        "), because the registry cannot be asked: ", pulled.error().message),
                    {{"image", present->reference}, {"digest", digest}});
  }
  return present;
}

Result<oci::Credentials> credentials_for(const Context& ctx, const StartDeps& deps, const TaskSpec& spec) {
  TRY(const auto reference, oci::Reference::parse(spec.options.image));
  auto found = find_credentials(ctx, reference.host(), spec.options.auth, deps.options.auth, reference.repository());
  if (found || !spec.options.auth_soft_fail || found.error().code == base::Code::kResourceExhausted) return found;
  deps.emit_event(spec, str("Fetching without credentials: ", found.error().message), {});
  return oci::Credentials();
}

std::string unused_credentials(const StartDeps& deps, const TaskSpec& spec) {
  const auto reference = oci::Reference::parse(spec.options.image);
  const std::string why =
      reference ? explain_unused_credentials(reference->host(), spec.options.auth, deps.options.auth) : "";
  return why.empty() ? "" : str(" (", why, ")");
}

/// Tells a task's user how its pull goes. Called on the pull's thread. When an image is here already, the registry is
/// only asked, and there is nothing to tell before something else is to be fetched.
class PullTeller {
 public:
  PullTeller(const StartDeps& deps, const TaskSpec& spec, std::string local_digest)
      : deps_(deps), spec_(spec), local_digest_(std::move(local_digest)) {
    if (local_digest_.empty()) begin();
  }

  void progress(const oci::PullProgress& progress) {
    last_ = progress;
    if (progress.bytes_total > progress.bytes_done) begin();
    if (progress.bytes_total > 0 && first_layers_ < 0) {
      first_layers_ = progress.layers_done;
      first_bytes_ = progress.bytes_done;
      make_room(deps_, (progress.bytes_total - progress.bytes_done) * kUnpackedFactor);
    }
    if (elapsed() < progress_time(told_)) return;
    ++told_;
    emit(str("Pulling ", spec_.options.image, ": ", show_progress(progress, elapsed())));
  }

  void done(const oci::Image& image) {
    if (!begun_ && image.resolved_digest.text() == local_digest_) return;
    std::ostringstream took;
    took << std::fixed << std::setprecision(1) << elapsed().count();
    const std::uint64_t bytes = last_.bytes_done > first_bytes_ ? last_.bytes_done - first_bytes_ : 0;
    const int reused = std::max(first_layers_, 0);
    deps_.emit_event(spec_,
                     str("Pulled image ", spec_.options.image, " (", show_digest(image), ") in ", took.str(), " s (",
                         show_mb(bytes), " MB, ", reused, " of ", image.layer_dirs.size(), " layers reused)"),
                     {{"image", image.reference},
                      {"digest", image.resolved_digest.text()},
                      {"platform", show_platform(image)},
                      {"size", str(image.size_bytes)},
                      {"bytes", str(bytes)},
                      {"seconds", took.str()}});
  }

  void emit(std::string message) { deps_.emit_event(spec_, std::move(message), {{"image", spec_.options.image}}); }

 private:
  void begin() {
    if (!std::exchange(begun_, true)) emit(str("Pulling image ", spec_.options.image));
  }
  std::chrono::duration<double> elapsed() const { return base::Clock::now() - begin_; }

  const StartDeps& deps_;
  const TaskSpec& spec_;
  const std::string local_digest_;
  bool begun_ = false;
  const base::Deadline begin_ = base::Clock::now();
  oci::PullProgress last_;
  int first_layers_ = -1;  // present before anything was fetched
  std::uint64_t first_bytes_ = 0;
  unsigned told_ = 0;
};

Result<oci::Image> pull(const Context& ctx, const StartDeps& deps, const TaskSpec& spec, const Verifier& verifier,
                        const std::string& local_digest) {
  const std::string& reference = spec.options.image;
  PullTeller teller(deps, spec, local_digest);
  oci::PullRequest request;
  request.reference = reference;
  TRY(request.credentials, credentials_for(ctx, deps, spec));
  request.platform = spec.options.platform;
  request.timeout = spec.options.image_pull_timeout;
  request.verifier = verifier;
  request.on_progress = [&teller](const oci::PullProgress& progress) { teller.progress(progress); };
  request.on_warning = [&teller](const std::string& text) { teller.emit(text); };
  request.on_shared = [&teller] { teller.emit("Waiting for a pull of the same image that is already under way"); };
  auto pulled = deps.images.pull(ctx, request);
  if (!pulled) {
    if (pulled.error().code == base::Code::kResourceExhausted) make_room(deps, 0);
    base::Error error = std::move(pulled).error().wrap(str("pulling ", reference));
    if (error.code == base::Code::kPermissionDenied) error.message += unused_credentials(deps, spec);
    return error;
  }
  teller.done(*pulled);
  return pulled;
}

// Each time: the file may have changed. What is in the store already is not stored again.
Result<oci::Image> load(const Context& ctx, const StartDeps& deps, const TaskSpec& spec, const ArchiveSource& source,
                        const Verifier& verifier) {
  TRY(const base::Fd archive, open_archive(spec, source));
  if (deps.news.hear(spec, "archive", spec.options.image) != News::Heard::kSame) {
    deps.emit_event(spec, str("Loading image ", spec.options.image), {{"image", spec.options.image}});
  }
  auto loaded = deps.images.load(ctx.with_timeout(spec.options.image_pull_timeout), archive, source.name, {},
                                 verifier.get(), spec.options.platform);
  if (!loaded) return std::move(loaded).error().wrap(str("loading ", spec.options.image));
  if (loaded->references.size() > 1) {
    std::string all;
    for (const std::string& reference : loaded->references) all += str(all.empty() ? "" : ", ", reference);
    return base::Error::invalid_argument(
        str(spec.options.image, " holds several images: name one of ", all, " after the path, behind a colon"));
  }
  return deps.images.find(loaded->references.front(), spec.options.platform);
}

// What was pulled just now has been asked about. What was here already may have come when others were asked, or nobody.
Status verify(const Context& ctx, const StartDeps& deps, const TaskSpec& spec, const Verifier& verifier,
              oci::Image& image) {
  if (!verifier) {
    image.verdict.reset();  // an earlier configuration's word is not this node's
    return {};
  }
  TRY(image.verdict, deps.images.verify(ctx.with_timeout(spec.options.image_pull_timeout), image, *verifier));
  std::string told = str("Image ", spec.options.image, " (", show_digest(image), ") verified by ", image.verdict->word);
  if (deps.news.hear(spec, "verified", told) == News::Heard::kSame) return {};
  deps.emit_event(
      spec, std::move(told),
      {{"image", image.reference}, {"digest", image.resolved_digest.text()}, {"verified", image.verdict->word}});
  return {};
}

// Under the lease the image either is there still, or has to be fetched again.
Status keep(const StartDeps& deps, const TaskSpec& spec, const oci::Image& image, Record& record) {
  TRY(const base::Fd lease, deps.images.lease(Context::cleanup()));
  TRY_VOID(deps.images.find(image.reference, spec.options.platform));
  record.image_reference = image.reference;
  record.image_digest = image.manifest_digest.text();
  record.image = {image.resolved_digest.text(), show_platform(image), image.size_bytes, image.pulled_at_unix,
                  image.verdict ? image.verdict->word : ""};
  record.layer_dirs = image.layer_dirs;
  record.stop_signal = spec.stop_signal.empty() ? image.config.stop_signal : spec.stop_signal;
  return TaskStore::write(record);
}

bool registry_unreachable(const base::Error& error) {
  return error.code == base::Code::kUnavailable || error.code == base::Code::kDeadlineExceeded;
}

// Not an error: whether the disk is really full shows when it is written to.
void make_room(const StartDeps& deps, std::uint64_t bytes) {
  const ImageGcOptions& gc = deps.options.image_gc;
  const auto free = deps.images.free_bytes();
  const bool fits = bytes > 0 && gc.max_size == 0 && free && *free > bytes;
  if (!gc.enabled || fits) return;
  const auto collected = deps.images.collect(Context::cleanup(), gc_request(gc, bytes));
  if (!collected) LOG_WARN("cannot make room for an image", {{"error", collected.error().message}});
}

std::string show_digest(const oci::Image& image) {
  const std::string& text = image.resolved_digest.text();
  return text.substr(0, std::min(text.size(), text.find(':') + 1 + kShortDigestBytes));
}

std::string show_platform(const oci::Image& image) {
  if (image.config.os.empty() && image.config.architecture.empty()) return oci::to_string(oci::host_platform());
  return oci::to_string(oci::normalize({image.config.os, image.config.architecture, image.config.variant, {}}));
}

std::string show_mb(std::uint64_t bytes) {
  return str(bytes / 1'000'000, ".", bytes / 100'000 % 10);
}

}  // namespace
}  // namespace driver
