#include "oci/hold.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <optional>
#include <utility>

#include "base/file.h"

namespace oci {

namespace {

using base::Result;
using base::Status;
using base::str;

constexpr std::chrono::milliseconds kLockPoll{1};

std::optional<HeldPaths> read_hold(const Store& store, const std::string& path);
bool is_locked_by_another(int fd);

}  // namespace

Result<std::unique_ptr<Hold>> Hold::create(const base::Context& ctx, const Store& store, std::string_view who) {
  static std::atomic<unsigned> counter{0};
  // Whoever clears ingest/ away takes what has no lock for nobody's.
  TRY(const auto ingest, store.lock_ingest(ctx, Store::Lease::kShared));
  std::string path = store.path(str("ingest/", kHoldPrefix, ::getpid(), "-", counter++));
  ::unlink(path.c_str());  // of an earlier process with our pid
  TRY(auto file, base::open_file(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW, 0600));
  while (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) return base::Error::from_errno(errno, str("locking ", path));
    TRY_VOID(ctx.sleep(kLockPoll));  // a collection is just looking at it
  }
  std::unique_ptr<Hold> hold(new Hold(store, std::move(path), std::move(file)));
  TRY_VOID(base::write_all(ctx, hold->file_.get(), str(who, "\n")));
  return hold;
}

Hold::~Hold() {
  ::unlink(path_.c_str());
}

Status Hold::add_blobs(const base::Context& ctx, const std::vector<Digest>& digests) {
  std::string lines;
  for (const Digest& digest : digests) lines += str("blobs/sha256/", digest.hex(), "\n");
  return add(ctx, lines);
}

Status Hold::add_layers(const base::Context& ctx, const std::vector<Digest>& chain_ids) {
  std::string lines;
  for (const Digest& chain_id : chain_ids) lines += str("layers/", chain_id.hex(), "\n");
  return add(ctx, lines);
}

Status Hold::add(const base::Context& ctx, const std::string& lines) {
  TRY(const auto lease, store_.lease(ctx, Store::Lease::kShared));
  return base::write_all(ctx, file_.get(), lines);
}

std::vector<HeldPaths> read_holds(const Store& store) {
  std::vector<HeldPaths> holds;
  std::error_code error;
  std::filesystem::directory_iterator entries(store.path("ingest"), error);
  for (; !error && entries != std::filesystem::directory_iterator(); entries.increment(error)) {
    if (!entries->path().filename().native().starts_with(kHoldPrefix)) continue;
    if (auto hold = read_hold(store, entries->path().string())) holds.push_back(*std::move(hold));
  }
  return holds;
}

namespace {

std::optional<HeldPaths> read_hold(const Store& store, const std::string& path) {
  const auto file = base::open_file(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!file || !is_locked_by_another(file->get())) return std::nullopt;
  const auto text = base::read_to_end(base::Context::background(), file->get(), kHoldFileBytesMax, path);
  if (!text) return std::nullopt;
  HeldPaths held;
  std::string_view rest = *text;
  for (bool first = true; !rest.empty(); first = false) {
    const auto end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (first) {
      held.who = line;
    } else {
      held.paths.insert(store.path(line));
    }
  }
  return held;
}

bool is_locked_by_another(int fd) {
  if (::flock(fd, LOCK_SH | LOCK_NB) == 0) return false;  // ours ends with the descriptor
  return errno == EWOULDBLOCK;
}

}  // namespace

}  // namespace oci
