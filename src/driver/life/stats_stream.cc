#include "driver/life/stats_stream.h"

namespace driver {

namespace {
// All streams of one interval tick together, so that a hundred of them wake the threads once, not a hundred times.
std::chrono::milliseconds to_next_beat(std::chrono::milliseconds interval) {
  using std::chrono::milliseconds;
  const auto now = std::chrono::duration_cast<milliseconds>(base::Clock::now().time_since_epoch());
  return interval - now % interval;
}
}  // namespace

std::shared_ptr<StatsStream> StatsStream::start(base::Loop& loop, base::Crew& crew, CgroupLocation location,
                                                double core_mhz, std::chrono::milliseconds interval,
                                                std::function<void(const TaskStats&)> on_sample,
                                                std::function<void()> on_end) {
  const std::shared_ptr<StatsStream> stream(new StatsStream(loop, crew, std::move(location), core_mhz));
  stream->on_sample_ = std::move(on_sample);
  stream->on_end_ = std::move(on_end);
  loop.post([stream, interval] {
    if (stream->ended_) return;
    stream->tick();
    const auto on_time = [weak = std::weak_ptr(stream)] {
      if (const auto self = weak.lock()) self->tick();
    };
    stream->timer_ = std::make_unique<base::Timer>(stream->loop_, to_next_beat(interval), interval, on_time);
  });
  return stream;
}

void StatsStream::end() {
  if (ended_.exchange(true)) return;
  loop_.post([self = shared_from_this()] { self->timer_.reset(); });
  on_end_();
}

void StatsStream::tick() {
  if (ended_ || busy_.exchange(true)) return;  // a slow read must not pile samples up
  const auto queued = crew_.submit("stats", [self = shared_from_this()] { self->take_sample(); });
  if (!queued) busy_ = false;  // the next tick tries again
}

void StatsStream::take_sample() {
  if (!ended_) {
    // The task's end ends the stream, an error does not: a cgroup may be made anew under the same name.
    if (const auto sample = sampler_.sample()) on_sample_(*sample);
  }
  busy_ = false;
}

}  // namespace driver
