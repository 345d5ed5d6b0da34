#include "oci/fetch/staging.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <ctime>
#include <filesystem>
#include <utility>

#include "base/file.h"
#include "oci/hold.h"

namespace oci::fetch {

namespace {

bool is_abandoned(int ingest, const std::string& name, bool is_dir);

}  // namespace

base::Result<std::unique_ptr<Staging>> Staging::create(const base::Context& ctx, const Store& store) {
  static std::atomic<unsigned> counter{0};
  TRY(const auto ingest, store.lock_ingest(ctx, Store::Lease::kShared));
  const std::string name = base::str(kStagingPrefix, ::getpid(), "-", counter++);
  TRY_VOID(base::remove_tree_at(ingest.get(), name));  // of an earlier process with our pid
  if (::mkdirat(ingest.get(), name.c_str(), 0700) != 0) {
    return base::Error::from_errno(errno, base::str("making ", store.path("ingest/"), name));
  }
  TRY(auto dir, base::open_at(ingest.get(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  if (::flock(dir.get(), LOCK_EX | LOCK_NB) != 0) return base::Error::from_errno(errno, base::str("locking ", name));
  std::string path = store.path(base::str("ingest/", name));
  return std::unique_ptr<Staging>(new Staging(std::move(path), name, std::move(dir)));
}

Staging::~Staging() {
  [[maybe_unused]] const auto removed = base::remove_tree(path_);
}

base::Status Staging::add(int number) {
  const std::string name = std::to_string(number);
  // 0755: as the root directories of all layers. The helper has no umask, and could not set this mode later.
  if (::mkdirat(dir_.get(), name.c_str(), 0755) != 0) {
    return base::Error::from_errno(errno, base::str("making ", path_, "/", name));
  }
  TRY(auto folder, base::open_at(dir_.get(), name, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  folders_[number] = std::move(folder);
  return {};
}

base::Status Staging::seal(int number, std::string_view text) {
  const std::string name = base::str(number, ".seal");
  TRY(const auto file, base::open_at(dir_.get(), name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0400));
  auto written = base::write_all(base::Context::cleanup(), file.get(), text);
  if (!written) return std::move(written).error().wrap(base::str("writing ", path_, "/", name));
  return written;
}

base::Status Staging::commit(int number, const std::string& target, const std::string& seal_target) {
  const std::string name = std::to_string(number);
  struct stat made {};
  struct stat found {};
  const auto folder = folders_.find(number);
  CHECK(folder != folders_.end());
  if (::fstat(folder->second.get(), &made) != 0 ||
      ::fstatat(dir_.get(), name.c_str(), &found, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISDIR(found.st_mode) ||
      made.st_ino != found.st_ino || made.st_dev != found.st_dev) {
    return base::Error::internal(
        base::str(path_, "/", name, " was exchanged while it was unpacked; nothing of it is kept"));
  }
  if (::renameat(dir_.get(), name.c_str(), AT_FDCWD, target.c_str()) == 0) {
    // A layer without a seal is as good as any other; only fsck knows less of it.
    ::renameat(dir_.get(), base::str(name, ".seal").c_str(), AT_FDCWD, seal_target.c_str());
    return {};
  }
  if (errno == EEXIST || errno == ENOTEMPTY) return {};
  return base::Error::from_errno(errno, base::str("moving ", path_, "/", name, " to ", target));
}

void remove_leftovers(const base::Context& ctx, const Store& store) {
  const auto ingest = store.lock_ingest(ctx, Store::Lease::kExclusive);
  if (!ingest) return;
  std::error_code error;
  std::filesystem::directory_iterator entries(store.path("ingest"), error);
  for (; !error && entries != std::filesystem::directory_iterator(); entries.increment(error)) {
    const std::string name = entries->path().filename().string();
    const bool is_dir = name.starts_with(kStagingPrefix);
    if (!is_abandoned(ingest->get(), name, is_dir)) continue;
    [[maybe_unused]] const auto removed = base::remove_tree_at(ingest->get(), name);
  }
}

namespace {

bool is_abandoned(int ingest, const std::string& name, bool is_dir) {
  const auto fd = base::open_at(ingest, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | (is_dir ? O_DIRECTORY : 0));
  struct stat info {};
  if (!fd || ::fstat(fd->get(), &info) != 0) return false;
  if (::flock(fd->get(), LOCK_EX | LOCK_NB) != 0) return false;
  return is_dir || name.starts_with(kHoldPrefix) ||
         ::time(nullptr) - info.st_mtime > std::chrono::seconds(kPartialLife).count();
}

}  // namespace

}  // namespace oci::fetch
