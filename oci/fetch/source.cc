#include "oci/fetch/source.h"

#include <algorithm>
#include <random>
#include <utility>

namespace oci::fetch {

namespace {

using base::Code;
using Hint = Registry::Hint;

constexpr std::chrono::milliseconds kFirstDelay{250};
constexpr std::chrono::seconds kRetryAfterMax{60};
/// A download that got this much further has earned a fresh set of tries.
constexpr std::uint64_t kProgressBytes = 1u << 20;

/// Delays between tries: doubling, each shortened at random by up to a half so that many nodes do not ask in step.
class Backoff {
 public:
  bool exhausted() const { return tries_ >= kTriesMax; }
  void restart() { tries_ = 1; }
  base::Status wait(const base::Context& ctx, std::chrono::seconds at_least);

 private:
  int tries_ = 1;
};

/// What each host of a round said.
struct Failure {
  std::string host;
  bool is_server;  // not a mirror
  base::Error error;
};

template <typename Once>
auto retry(const base::Context& ctx, Once once) -> decltype(once(std::declval<Hint&>()));
bool another_host_may_do(const base::Error& error);
base::Error merge(std::vector<Failure> failures);

}  // namespace

Source::Source(std::vector<Host> hosts, const Reference& reference, const Credentials& credentials,
               std::function<void(const std::string&)> warn)
    : by_tag_(!reference.digest()), name_(reference.canonical()), warn_(std::move(warn)) {
  for (Host& host : hosts) entries_.push_back(std::make_unique<Entry>(std::move(host), reference, credentials));
}

base::Result<Registry::Resolved> Source::resolve(const base::Context& ctx, HttpClient& http) {
  return retry(ctx, [&](Hint& hint) {
    return ask_each(by_tag_, hint, [&](Registry& registry, Hint& own) { return registry.resolve(ctx, http, own); });
  });
}

base::Result<Registry::Document> Source::manifest(const base::Context& ctx, HttpClient& http,
                                                  const std::optional<Digest>& digest) {
  return retry(ctx, [&](Hint& hint) {
    return ask_each(by_tag_ && !digest, hint,
                    [&](Registry& registry, Hint& own) { return registry.manifest(ctx, http, digest, own); });
  });
}

base::Status Source::blob(const base::Context& ctx, HttpClient& http, Blob& blob,
                          std::atomic<std::uint64_t>& received) {
  Backoff backoff;
  while (blob.offset() < blob.descriptor().size) {
    Hint hint;
    const std::uint64_t before = blob.offset();
    auto result = ask_each(false, hint, [&](Registry& registry, Hint& own) -> base::Status {
      TRY_VOID(registry.blob(ctx, http, blob, received, own));
      if (blob.offset() == blob.descriptor().size) return {};
      return base::Error::unavailable("the registry ended the answer early");
    });
    if (result) return {};
    if (blob.offset() - before >= kProgressBytes) backoff.restart();
    if (result.error().code != Code::kUnavailable || backoff.exhausted()) return result;
    TRY_VOID(backoff.wait(ctx, hint.retry_after));
  }
  return {};
}

/// One round: each host that has the capability, until one can.
template <typename Once>
std::invoke_result_t<Once, Registry&, Registry::Hint&> Source::ask_each(bool resolving, Registry::Hint& hint,
                                                                        Once once) {
  std::vector<Failure> failures;
  if (entries_.empty()) return base::Error::not_found(base::str("a part of ", name_, " is missing in the archive"));
  const std::vector<Entry*> hosts = order(resolving);
  if (hosts.empty()) {
    return base::Error::failed_precondition(
        base::str("no host may say what the tag of ", name_,
                  " means: give one the capability resolve in hosts.toml, or name a "
                  "digest"));
  }
  for (Entry* entry : hosts) {
    Hint own;
    auto answer = once(entry->registry, own);
    if (answer || !another_host_may_do(answer.error())) return answer;
    hint.retry_after = std::max(hint.retry_after, own.retry_after);
    note_failure(*entry, answer.error(), entry != hosts.back());
    failures.push_back({entry->registry.host().name(), entry == entries_.back().get(), std::move(answer).error()});
  }
  return merge(std::move(failures));
}

// Those that failed before come last, so that one that is gone costs its timeout once and not for each blob.
std::vector<Source::Entry*> Source::order(bool resolving) {
  std::vector<Entry*> good, failed;
  for (const auto& entry : entries_) {
    if (resolving && !entry->registry.host().resolve) continue;
    (entry->failed ? failed : good).push_back(entry.get());
  }
  good.insert(good.end(), failed.begin(), failed.end());
  return good;
}

// A mirror that does not have everything is nothing to tell.
void Source::note_failure(Entry& entry, const base::Error& error, bool another_is_left) {
  entry.failed = true;
  if (error.code == Code::kNotFound || !another_is_left || entry.warned.exchange(true)) return;
  warn_(base::str(entry.registry.host().name(), " does not serve ", name_, ", asking the next: ", error.message));
}

namespace {

base::Status Backoff::wait(const base::Context& ctx, std::chrono::seconds at_least) {
  thread_local std::minstd_rand random{std::random_device{}()};
  const auto longest = kFirstDelay * (1 << tries_);
  const auto delay = std::chrono::milliseconds(
      std::uniform_int_distribution<std::chrono::milliseconds::rep>(longest.count() / 2, longest.count())(random));
  ++tries_;
  return ctx.sleep(std::max<std::chrono::nanoseconds>(delay, std::min(at_least, kRetryAfterMax)));
}

/// Calls `once(hint)` until it succeeds, fails for good, or has been tried often enough.
template <typename Once>
auto retry(const base::Context& ctx, Once once) -> decltype(once(std::declval<Hint&>())) {
  Backoff backoff;
  for (;;) {
    Hint hint;
    auto result = once(hint);
    if (result || result.error().code != Code::kUnavailable || backoff.exhausted()) return result;
    TRY_VOID(backoff.wait(ctx, hint.retry_after));
  }
}

bool another_host_may_do(const base::Error& error) {
  switch (error.code) {
    case Code::kUnavailable:
    case Code::kNotFound:
    case Code::kPermissionDenied:
    case Code::kFailedPrecondition:
    case Code::kDataLoss:
      return true;
    default:
      return false;  // our own end (time, disk), or what no host can make right
  }
}

// The server knows what there is: if it says no, no mirror that is down now would have had it. Without its word, trying
// again helps if it helps with any of them; else who lets us not in knows more than who has nothing.
base::Error merge(std::vector<Failure> failures) {
  if (failures.size() == 1) return std::move(failures.front().error);
  constexpr Code kHope[] = {Code::kUnavailable, Code::kPermissionDenied, Code::kDataLoss, Code::kFailedPrecondition,
                            Code::kNotFound};
  const bool decided = std::any_of(failures.begin(), failures.end(), [](const Failure& failure) {
    return failure.is_server &&
           (failure.error.code == Code::kPermissionDenied || failure.error.code == Code::kNotFound);
  });
  const auto hope = [&](const Failure& failure) {
    if (decided && failure.error.code == Code::kUnavailable) return std::end(kHope) - std::begin(kHope);
    return std::find(std::begin(kHope), std::end(kHope), failure.error.code) - std::begin(kHope);
  };
  const auto best = std::min_element(failures.begin(), failures.end(),
                                     [&](const Failure& a, const Failure& b) { return hope(a) < hope(b); });
  base::Error out = best->error;
  out.message.clear();
  for (const Failure& failure : failures) {
    out.message += base::str(out.message.empty() ? "" : "; ", failure.host, ": ", failure.error.message);
  }
  return out;
}

}  // namespace

}  // namespace oci::fetch
