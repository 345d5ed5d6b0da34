// When a plugin is nobody's any more, and ends by itself.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "base/fd.h"
#include "base/loop.h"

namespace plugin {

/// How long a plugin whose host is gone waits.
struct OrphanTimes {
  /// For a first connection: a host may read the line by a program which then ends.
  std::chrono::milliseconds first{std::chrono::seconds(5)};
  /// For the next one, if there were some: an agent that is restarted or upgraded comes back to the plugin that it has
  /// left. One that has lost its state never does: it starts a plugin of its own, which takes the tasks over.
  std::chrono::milliseconds next{std::chrono::minutes(10)};
  std::chrono::milliseconds look{std::chrono::minutes(1)};
};

/// Loop thread only.
class OrphanWatch {
 public:
  struct Deps {
    std::function<bool()> was_connected;  ///< ever
    std::function<bool()> is_connected;
    std::function<void(std::string why)> on_orphaned;  ///< may be called again
  };
  /// `host` becomes readable, or broken, when the host is gone.
  OrphanWatch(base::Loop& loop, base::Fd host, OrphanTimes times, Deps deps);

 private:
  void host_is_gone();
  void look();

  base::Loop& loop_;
  const OrphanTimes times_;
  const Deps deps_;
  std::chrono::steady_clock::time_point alone_since_;
  std::unique_ptr<base::Watch> gone_;
  std::unique_ptr<base::Timer> timer_;
};

}  // namespace plugin
