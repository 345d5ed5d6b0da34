// Where the content of one reference comes from: its mirrors in their order, then its registry. What one host cannot
// give, the next is asked for; what none can give now is tried again.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "base/context.h"
#include "base/result.h"
#include "oci/fetch/registry.h"

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

 private:
  struct Entry {
    Entry(Host host, const Reference& reference, const Credentials& credentials)
        : registry(std::move(host), reference, credentials) {}
    Registry registry;
    std::atomic<bool> failed{false};  // asked after those that did not fail
    std::atomic<bool> warned{false};
  };
  template <typename Once>
  std::invoke_result_t<Once, Registry&, Registry::Hint&> ask_each(bool resolving, Registry::Hint& hint, Once once);
  std::vector<Entry*> order(bool resolving);
  void note_failure(Entry& entry, const base::Error& error, bool another_is_left);

  const bool by_tag_;
  const std::string name_;
  const std::function<void(const std::string&)> warn_;
  std::vector<std::unique_ptr<Entry>> entries_;
};

}  // namespace oci::fetch
