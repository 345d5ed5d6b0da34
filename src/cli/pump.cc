#include "cli/pump.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <array>

#include "base/file.h"

namespace cli {

using base::Context;
using base::Result;

Result<std::unique_ptr<FifoPump>> FifoPump::start(const std::string& path, int to_fd) {
  constexpr mode_t kOwnerOnly = 0600;
  if (::mkfifo(path.c_str(), kOwnerOnly) != 0) return base::Error::from_errno(errno, path);
  TRY(base::Fd from, base::open_file(path, O_RDONLY | O_NONBLOCK));
  return std::unique_ptr<FifoPump>(new FifoPump(std::move(from), to_fd));
}

FifoPump::FifoPump(base::Fd from, int to_fd) : from_(std::move(from)), to_fd_(to_fd) {
  thread_ = std::thread([this] { copy(); });
}

FifoPump::~FifoPump() {
  stop_.request_stop();
  thread_.join();
}

base::Status FifoPump::drain(const Context& ctx) {
  TRY([[maybe_unused]] const bool ended, ended_.wait(ctx));
  return {};
}

// A FIFO without a writer so far is not readable, so this waits for the first one; end of file is the last one's going.
void FifoPump::copy() {
  constexpr std::size_t kChunkBytes = 64u << 10;  // a pipe's default size
  const auto chunk = std::make_unique<std::array<char, kChunkBytes>>();
  const Context ctx = Context::background().with_stop(stop_.get_token());
  bool target_takes_more = true;
  while (true) {
    const auto size = base::read_some(ctx, from_.get(), *chunk);
    if (!size || *size == 0) break;
    if (!target_takes_more) continue;
    target_takes_more = base::write_all(ctx, to_fd_, {chunk->data(), *size}).has_value();
  }
  ended_.set(true);
}

}  // namespace cli
