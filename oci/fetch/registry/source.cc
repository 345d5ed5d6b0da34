#include "oci/fetch/registry/source.h"

#include <algorithm>
#include <random>
#include <utility>

#include "oci/fetch/registry/answer.h"

namespace oci::fetch {

namespace {

using base::Code;
using Hint = Registry::Hint;

constexpr std::chrono::milliseconds kFirstDelay{250};
/// A download that got this much further has earned a fresh set of tries.
constexpr std::uint64_t kProgressBytes = 1u << 20;
/// Times that a blob of several origins may turn out wrong before that is told.
constexpr int kMixturesMax = 2;

/// Delays between tries: doubling, each shortened at random by up to a half so that many nodes do not ask in step.
class Backoff {
 public:
  bool exhausted() const { return tries_ >= kTriesMax; }
  void restart() { tries_ = 1; }
  base::Status wait(const base::Context& ctx, std::chrono::seconds at_least);

 private:
  int tries_ = 1;
};

template <typename Once>
auto retry(const base::Context& ctx, Once once) -> decltype(once(std::declval<Hint&>()));
bool another_host_may_do(const base::Error& error);

}  // namespace

Source::Source(std::vector<Host> hosts, const Reference& reference, const Credentials& credentials,
               std::function<void(const std::string&)> warn)
    : by_tag_(!reference.digest()), name_(reference.canonical()), warn_(std::move(warn)) {
  for (Host& host : hosts) entries_.push_back(std::make_unique<Entry>(std::move(host), reference, credentials));
}

base::Result<Registry::Resolved> Source::resolve(const base::Context& ctx, HttpClient& http) {
  return retry(ctx, [&](Hint& hint) {
    return ask_each(by_tag_, hint, [&](Registry& registry, Hint& own) { return registry.resolve(ctx, http, own); }, {});
  });
}

base::Result<Registry::Document> Source::manifest(const base::Context& ctx, HttpClient& http,
                                                  const std::optional<Digest>& digest) {
  return retry(ctx, [&](Hint& hint) {
    return ask_each(by_tag_ && !digest, hint,
                    [&](Registry& registry, Hint& own) { return registry.manifest(ctx, http, digest, own); }, {});
  });
}

base::Status Source::blob(const base::Context& ctx, HttpClient& http, Blob& blob,
                          std::atomic<std::uint64_t>& received) {
  Backoff backoff;
  const Digest& digest = blob.descriptor().digest;
  while (blob.offset() < blob.descriptor().size) {
    Hint hint;
    const std::uint64_t before = blob.offset();
    const auto once = [&](Registry& registry, Hint& own) -> base::Status {
      const std::uint64_t start = blob.offset();
      auto answer = registry.blob(ctx, http, blob, received, own);
      if (blob.offset() > start) (*histories_.lock())[digest].suppliers.insert(&registry);
      if (!answer || blob.offset() == blob.descriptor().size) return answer;
      return base::Error::unavailable("the registry ended the answer early");
    };
    const History history = (*histories_.lock())[digest];
    auto result = ask_each(false, hint, once, history);
    if (result) return {};
    if (blob.offset() - before >= kProgressBytes) backoff.restart();
    if (result.error().code != Code::kUnavailable || backoff.exhausted()) return result;
    TRY_VOID(backoff.wait(ctx, hint.retry_after));
  }
  return {};
}

std::optional<base::Error> Source::reject(const Blob& blob, base::Error error) {
  const auto histories = [this, &blob](const auto& change) {
    auto all = histories_.lock();
    return change((*all)[blob.descriptor().digest]);
  };
  const auto suppliers = histories([](History& history) { return std::exchange(history.suppliers, {}); });
  if (blob.inherited() > 0 || suppliers.size() != 1) {
    const int mixtures = histories([](History& history) { return ++history.mixtures; });
    if (mixtures > kMixturesMax) return error;
    return std::nullopt;
  }
  const auto culprit = std::find_if(entries_.begin(), entries_.end(),
                                    [&](const auto& entry) { return &entry->registry == *suppliers.begin(); });
  CHECK(culprit != entries_.end());
  const History history = histories([&](History& of_blob) {
    of_blob.refused.insert(*suppliers.begin());
    of_blob.faults.push_back(failure_of(**culprit, error));
    return of_blob;
  });
  const bool another_is_left = history.refused.size() < entries_.size();
  note_failure(**culprit, error, another_is_left);
  if (another_is_left) return std::nullopt;
  return merge(history.faults);
}

bool Source::has_several_origins(const Blob& blob) const {
  return blob.inherited() > 0 || entries_.size() > 1;
}

/// One round: each host that has the capability, until one can.
template <typename Once>
std::invoke_result_t<Once, Registry&, Registry::Hint&> Source::ask_each(bool resolving, Registry::Hint& hint, Once once,
                                                                        History history) {
  std::vector<Failure> failures = std::move(history.faults);
  if (entries_.empty()) return base::Error::not_found(base::str("a part of ", name_, " is missing in the archive"));
  const std::vector<Entry*> hosts = order(resolving, history.refused);
  if (hosts.empty() && failures.empty()) {
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
    failures.push_back(failure_of(*entry, std::move(answer).error()));
  }
  return merge(std::move(failures));
}

// Those that failed before come last, so that one that is gone costs its timeout once and not for each blob.
std::vector<Source::Entry*> Source::order(bool resolving, const std::set<const Registry*>& refused) {
  std::vector<Entry*> good, failed;
  for (const auto& entry : entries_) {
    if ((resolving && !entry->registry.host().resolve) || refused.contains(&entry->registry)) continue;
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

Source::Failure Source::failure_of(const Entry& entry, base::Error error) const {
  return {entry.registry.host().name(), &entry == entries_.back().get(), std::move(error)};
}

// The server knows what there is: if it says no, no mirror that is down now would have had it. Without its word, trying
// again helps if it helps with any of them; else a refusal outranks not-found.
base::Error Source::merge(std::vector<Failure> failures) {
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

}  // namespace

}  // namespace oci::fetch
