#include "plugin/orphan_watch.h"

#include <utility>

namespace plugin {

using std::chrono::steady_clock;

OrphanWatch::OrphanWatch(base::Loop& loop, base::Fd host, OrphanTimes times, Deps deps)
    : loop_(loop), times_(times), deps_(std::move(deps)) {
  gone_ = std::make_unique<base::Watch>(loop, std::move(host), [this] { host_is_gone(); });
}

void OrphanWatch::host_is_gone() {
  alone_since_ = steady_clock::now();
  timer_ = std::make_unique<base::Timer>(loop_, times_.first, times_.look, [this] { look(); });
  gone_.reset();
}

void OrphanWatch::look() {
  if (!deps_.was_connected()) return deps_.on_orphaned("the host is gone without having connected");
  if (deps_.is_connected()) {
    alone_since_ = steady_clock::now();
  } else if (steady_clock::now() - alone_since_ >= times_.next) {
    deps_.on_orphaned("the host is gone, and no other one has come");
  }
}

}  // namespace plugin
