#include "oci/hold.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <optional>
#include <utility>

#include "base/dir.h"
#include "base/file.h"

namespace oci {

namespace {

using base::Result;
using base::Status;
using base::str;

constexpr std::chrono::milliseconds kLockPoll{1};

Result<std::optional<Holder>> read_hold(const Store& store, const std::string& path);
Result<bool> is_locked_by_another(int fd);

}  // namespace

Result<std::unique_ptr<Hold>> Hold::create(const base::Context& ctx, const Store& store, std::string_view who) {
  static std::atomic<unsigned> counter{0};
  // Whoever clears ingest/ removes what is not locked.
  TRY(const auto ingest, store.lock_ingest(ctx, Store::Lease::kShared));
  std::string path = store.path(str("ingest/", kHoldPrefix, ::getpid(), "-", counter++));
  ::unlink(path.c_str());  // left by an earlier process with our pid
  TRY(auto file, base::open_file(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW, 0600));
  while (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) return base::Error::from_errno(errno, str("locking ", path));
    TRY_VOID(ctx.sleep(kLockPoll));  // a collection is reading it
  }
  std::unique_ptr<Hold> hold(new Hold(store, std::move(path), std::move(file)));
  TRY_VOID(hold->append(ctx, str(who, "\n")));
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
  return append(ctx, lines);
}

// A hold that is too large to be read would keep collections from removing anything.
Status Hold::append(const base::Context& ctx, const std::string& lines) {
  if (bytes_ + lines.size() > kHoldFileBytesMax) {
    return base::Error::resource_exhausted(
        str("the images of one archive need more blobs and layers than can be held at once (", kHoldFileBytesMax,
            " bytes of names); load them one by one"));
  }
  TRY_VOID(base::write_all(ctx, file_.get(), lines));
  bytes_ += lines.size();
  return {};
}

HeldPaths read_holds(const Store& store) {
  HeldPaths held;
  const auto names = base::list_dir(store.path("ingest"));
  if (!names) {
    if (names.error().code != base::Code::kNotFound) held.unreadable.push_back(names.error().message);
    return held;
  }
  for (const std::string& name : *names) {
    if (!name.starts_with(kHoldPrefix)) continue;
    auto holder = read_hold(store, store.path(str("ingest/", name)));
    if (!holder) {
      held.unreadable.push_back(str("the list of what a pull needs cannot be read: ", holder.error().message));
    } else if (*holder) {
      held.holders.push_back(**std::move(holder));
    }
  }
  return held;
}

namespace {

// nullopt: its pull is gone, or it is not a file of a pull.
Result<std::optional<Holder>> read_hold(const Store& store, const std::string& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) return std::optional<Holder>();
    return base::Error::from_errno(errno, path);
  }
  if (!S_ISREG(info.st_mode)) return std::optional<Holder>();
  const auto file = open_stored_file(path, O_RDONLY);
  if (!file && file.error().code == base::Code::kNotFound) return std::optional<Holder>();
  if (!file) return file.error();
  TRY(const bool locked, is_locked_by_another(file->get()));
  if (!locked) return std::optional<Holder>();
  TRY(const auto text, base::read_to_end(base::Context::background(), file->get(), kHoldFileBytesMax, path));
  if (text.size() < static_cast<std::size_t>(info.st_size)) {
    return base::Error::from_errno(EIO, str("only ", text.size(), " of ", info.st_size, " bytes of ", path));
  }
  Holder holder;
  std::string_view rest = text;
  for (bool first = true; !rest.empty(); first = false) {
    const auto end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (first) {
      holder.who = line;
    } else {
      holder.paths.insert(store.path(line));
    }
  }
  return std::optional<Holder>(std::move(holder));
}

Result<bool> is_locked_by_another(int fd) {
  if (::flock(fd, LOCK_SH | LOCK_NB) == 0) return false;  // ours ends with the descriptor
  if (errno == EWOULDBLOCK) return true;
  return base::Error::from_errno(errno, "checking whether a pull is running");
}

}  // namespace

}  // namespace oci
