#include "cli/pump.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/file.h"
#include "base/thread.h"

namespace cli {

using base::Context;
using base::Result;

Result<std::unique_ptr<FifoPump>> FifoPump::start(const std::string& path, int to_fd, OnLost on_lost, OnData on_data) {
  constexpr mode_t kOwnerOnly = 0600;
  if (::mkfifo(path.c_str(), kOwnerOnly) != 0) return base::Error::from_errno(errno, path);
  TRY(base::Fd from, base::open_file(path, O_RDONLY | O_NONBLOCK));
  std::unique_ptr<FifoPump> pump(new FifoPump(std::move(from), to_fd, std::move(on_lost), std::move(on_data)));
  TRY(pump->thread_, base::start_thread("output", [&self = *pump](const std::stop_token& stop) { self.copy(stop); }));
  return pump;
}

base::Status FifoPump::drain(const Context& ctx, std::chrono::milliseconds idle) {
  while (true) {
    const std::uint64_t before = chunks_;
    if (ended_.wait(ctx.with_timeout(idle))) return {};
    TRY_VOID(ctx.check());
    if (!writing_ && chunks_ == before) return base::Error::unavailable("no more output has come");
  }
}

// A FIFO without a writer so far is not readable, so this waits for the first one; end of file is the last one's going.
void FifoPump::copy(const std::stop_token& stop) {
  constexpr std::size_t kChunkBytes = 64u << 10;  // a pipe's default size
  const auto chunk = std::make_unique<std::array<char, kChunkBytes>>();
  const Context ctx = Context::background().with_stop(stop);
  bool target_takes_more = true;
  while (true) {
    const auto size = base::read_some(ctx, from_.get(), *chunk);
    if (!size || *size == 0) break;
    ++chunks_;
    if (on_data_) on_data_({chunk->data(), *size});
    if (!target_takes_more) continue;
    writing_ = true;
    const auto written = write(ctx, {chunk->data(), *size});
    writing_ = false;
    if (written || stop.stop_requested()) continue;
    target_takes_more = false;
    on_lost_(written.error());
  }
  ended_.set(true);
}

// No more at once than a pipe that is ready takes: others have this descriptor, too, so it may block, and a stop must
// be heard all the same.
base::Status FifoPump::write(const Context& ctx, std::string_view data) {
  while (!data.empty()) {
    TRY_VOID(base::wait_fd(ctx, to_fd_, base::Wait::kWritable));
    const ssize_t n = ::write(to_fd_, data.data(), std::min<std::size_t>(data.size(), PIPE_BUF));
    if (n > 0) data.remove_prefix(static_cast<std::size_t>(n));
    if (n < 0 && errno != EAGAIN && errno != EINTR) return base::Error::from_errno(errno, "writing");
  }
  return {};
}

}  // namespace cli
