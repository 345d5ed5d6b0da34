// Where the content of one reference comes from: its mirrors in their order, then its registry. What one host cannot
// give, the next is asked for; what none can give now is tried again.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

#include "base/context.h"
#include "base/result.h"
#include "base/sync.h"
#include "oci/fetch/registry/registry.h"

namespace oci::fetch {

constexpr int kTriesMax = 5;

/// threads: any; each thread brings its own HttpClient.
class Source {
 public:
  /// `hosts` as hosts_of gives them; none for what is in the store already: then nothing is found. `warn` is told once
  /// of each host that failed while another was there to be asked; it is called from any thread.
  Source(std::vector<Host> hosts, const Reference& reference, const Credentials& credentials,
         std::function<void(const std::string&)> warn);

  /// As Registry's. A tag is resolved by hosts that may do so, and by no other.
  ///   errors  with several hosts: a sentence with what each of them said, and the code of the most hopeful of them, or
  ///   of the last
  ///           one when it says that there is none, or denies it
  base::Result<Registry::Resolved> resolve(const base::Context& ctx, HttpClient& http);
  base::Result<Registry::Document> manifest(const base::Context& ctx, HttpClient& http,
                                            const std::optional<Digest>& digest);
  /// Goes on where a broken connection stopped, with whichever host.
  base::Status blob(const base::Context& ctx, HttpClient& http, Blob& blob, std::atomic<std::uint64_t>& received);

  /// What blob() has brought does not have its digest (`error` says so). nullopt: brought anew, from the beginning, it
  /// may be right. Either nobody in particular is to blame, as a part came from an earlier run or from another host; or
  /// one host sent all of it, and is not asked for it again, but others are there to be asked. Else what to tell: what
  /// each host sent. Ends: after a few calls for one digest the answer is never nullopt.
  std::optional<base::Error> reject(const Blob& blob, base::Error error);
  /// Whether it matters who sent what is wrong with it.
  bool has_several_origins(const Blob& blob) const;

 private:
  /// What a host said, or did.
  struct Failure {
    std::string host;
    bool is_server;  // not a mirror
    base::Error error;
  };
  /// Who sent what of one blob.
  struct History {
    std::set<const Registry*> suppliers;  // of what has arrived in this try
    std::set<const Registry*> refused;    // sent all of it, and wrong
    std::vector<Failure> faults;          // the words for that
    int mixtures = 0;                     // wrong, by whoever
  };
  struct Entry {
    Entry(Host host, const Reference& reference, const Credentials& credentials)
        : registry(std::move(host), reference, credentials) {}
    Registry registry;
    std::atomic<bool> failed{false};  // asked after those that did not fail
    std::atomic<bool> warned{false};
  };
  template <typename Once>
  std::invoke_result_t<Once, Registry&, Registry::Hint&> ask_each(bool resolving, Registry::Hint& hint, Once once,
                                                                  History history);
  std::vector<Entry*> order(bool resolving, const std::set<const Registry*>& refused);
  void note_failure(Entry& entry, const base::Error& error, bool another_is_left);
  Failure failure_of(const Entry& entry, base::Error error) const;
  static base::Error merge(std::vector<Failure> failures);

  const bool by_tag_;
  const std::string name_;
  const std::function<void(const std::string&)> warn_;
  std::vector<std::unique_ptr<Entry>> entries_;
  base::Guarded<std::map<Digest, History>> histories_;
};

}  // namespace oci::fetch
