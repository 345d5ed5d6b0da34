#include "cli/pump.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <array>

#include "base/file.h"
#include "base/thread.h"

namespace cli {

using base::Context;
using base::Result;

Result<std::unique_ptr<FifoPump>> FifoPump::start(const std::string& path, int to_fd, OnLost on_lost) {
  constexpr mode_t kOwnerOnly = 0600;
  if (::mkfifo(path.c_str(), kOwnerOnly) != 0) return base::Error::from_errno(errno, path);
  TRY(base::Fd from, base::open_file(path, O_RDONLY | O_NONBLOCK));
  std::unique_ptr<FifoPump> pump(new FifoPump(std::move(from), to_fd, std::move(on_lost)));
  TRY(pump->thread_, base::start_thread("output", [&self = *pump](const std::stop_token& stop) { self.copy(stop); }));
  return pump;
}

base::Status FifoPump::drain(const Context& ctx) {
  TRY([[maybe_unused]] const bool ended, ended_.wait(ctx));
  return {};
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
    if (!target_takes_more) continue;
    const auto written = base::write_all(ctx, to_fd_, {chunk->data(), *size});
    if (written || stop.stop_requested()) continue;
    target_takes_more = false;
    on_lost_(written.error());
  }
  ended_.set(true);
}

}  // namespace cli
