#include "oci/fetch/registry/blob.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <span>
#include <utility>

#include "base/file.h"

namespace oci::fetch {

namespace {

constexpr std::size_t kWriteBytes = 256u << 10;
constexpr std::chrono::milliseconds kLockPoll{50};

base::Status write_at(int fd, std::string_view bytes, std::uint64_t offset, std::string_view what);
base::Result<std::size_t> read_at(int fd, std::span<char> out, std::uint64_t offset, std::string_view what);

}  // namespace

Blob::Blob(const Store& store, const Descriptor& descriptor)
    : store_(store), descriptor_(descriptor), ingest_path_(store.path(base::str("ingest/", descriptor.digest.hex()))) {}

base::Result<Blob::Begin> Blob::begin(const base::Context& ctx) {
  TRY(bool present, open_present());
  if (!present) {
    TRY(present, lock_ingest(ctx));
  }
  if (present) return Begin::kPresent;
  TRY_VOID(rehash(ctx));
  return Begin::kMissing;
}

std::uint64_t Blob::offset() const {
  return received_;
}

base::Status Blob::append(std::string_view bytes) {
  if (bytes.size() > descriptor_.size - received_) {
    return base::Error::data_loss(
        base::str("the registry sends more than the ", descriptor_.size, " bytes of blob ", descriptor_.digest.text()));
  }
  received_ += bytes.size();
  buffer_.append(bytes);
  if (buffer_.size() < kWriteBytes) return {};
  return flush();
}

base::Status Blob::commit() {
  TRY_VOID(flush());
  const std::string name = base::str("blob ", descriptor_.digest.text());
  const Digest digest = std::exchange(hasher_, std::nullopt)->finish();
  if (received_ != descriptor_.size || digest != descriptor_.digest) {
    ::unlink(ingest_path_.c_str());
    return base::Error::data_loss(base::str(name, " arrived damaged: ", received_, " bytes with digest ", digest.text(),
                                            " instead of ", descriptor_.size,
                                            " bytes; nothing of it is kept, the registry's copy may be broken"));
  }
  // A failed fsync means that bytes may be lost, and a second one would not say so: the file is not used.
  if (::fdatasync(file_.get()) != 0 || ::fchmod(file_.get(), 0400) != 0 ||
      ::rename(ingest_path_.c_str(), store_.blob_path(descriptor_.digest).c_str()) != 0) {
    const int err = errno;
    ::unlink(ingest_path_.c_str());
    return base::Error::from_errno(err, base::str("storing ", name));
  }
  ::flock(file_.get(), LOCK_UN);  // whoever waits for it finds the blob
  complete_ = true;
  growth_.clear();
  return {};
}

void Blob::fail(bool resumable) {
  if (file_ && !complete_) {
    if (resumable && flush()) {
      ::flock(file_.get(), LOCK_UN);  // readers still hold the descriptor
    } else {
      ::unlink(ingest_path_.c_str());
    }
  }
  growth_.clear();
}

base::Result<BlobFds> Blob::open_for_reader(int store_view) {
  const std::string name = base::str(complete_ ? "blobs/sha256/" : "ingest/", descriptor_.digest.hex());
  TRY(auto file, base::open_at(store_view, name, O_RDONLY | O_NOFOLLOW));
  struct stat ours {};
  struct stat theirs {};
  if (::fstat(file_.get(), &ours) != 0 || ::fstat(file.get(), &theirs) != 0)
    return base::Error::from_errno(errno, name);
  if (ours.st_ino != theirs.st_ino || ours.st_dev != theirs.st_dev) {
    return base::Error::unavailable(base::str(name, " was replaced while it was fetched; pull again"));
  }
  TRY(auto growth, base::make_pipe());
  if (!complete_) {
    if (::fcntl(growth.write_end.get(), F_SETFL, O_NONBLOCK) != 0) return base::Error::from_errno(errno, "a pipe");
    growth_.push_back(std::move(growth.write_end));
  }
  return BlobFds{std::move(file), std::move(growth.read_end)};
}

base::Result<bool> Blob::remove_if_damaged() {
  TRY(const auto fd, base::open_file(store_.blob_path(descriptor_.digest), O_RDONLY | O_NOFOLLOW));
  Hasher hasher;
  std::string chunk(kWriteBytes, '\0');
  for (std::uint64_t at = 0;;) {
    TRY(const std::size_t size, read_at(fd.get(), chunk, at, descriptor_.digest.text()));
    if (size == 0) break;
    hasher.update(std::string_view(chunk).substr(0, size));
    at += size;
  }
  if (hasher.finish() == descriptor_.digest) return false;
  ::unlink(store_.blob_path(descriptor_.digest).c_str());
  return true;
}

// A file of the wrong size is what a crash of the machine can leave of a rename without its data: fetched anew.
base::Result<bool> Blob::open_present() {
  const std::string path = store_.blob_path(descriptor_.digest);
  auto fd = base::open_file(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!fd) {
    if (fd.error().code == base::Code::kNotFound) return false;
    return std::move(fd).error();
  }
  struct stat info {};
  if (::fstat(fd->get(), &info) != 0) return base::Error::from_errno(errno, path);
  if (!S_ISREG(info.st_mode) || static_cast<std::uint64_t>(info.st_size) != descriptor_.size) return false;
  file_ = *std::move(fd);
  received_ = descriptor_.size;
  complete_ = true;
  return true;
}

// True: while we waited, the process that had the lock has put the blob into the store.
base::Result<bool> Blob::lock_ingest(const base::Context& ctx) {
  for (;;) {
    TRY(auto fd, base::open_file(ingest_path_, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
    while (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK && errno != EINTR) {
        return base::Error::from_errno(errno, base::str("locking ", ingest_path_));
      }
      TRY_VOID(ctx.sleep(kLockPoll));
    }
    TRY(const bool present, open_present());
    struct stat held {};
    struct stat named {};
    const bool same = ::fstat(fd.get(), &held) == 0 && ::stat(ingest_path_.c_str(), &named) == 0 &&
                      held.st_ino == named.st_ino && held.st_dev == named.st_dev;
    if (present) {
      if (same) ::unlink(ingest_path_.c_str());  // we have just made it
      return true;
    }
    if (!same) continue;  // removed or renamed before we had the lock
    file_ = std::move(fd);
    return false;
  }
}

base::Status Blob::rehash(const base::Context& ctx) {
  hasher_.emplace();
  struct stat info {};
  if (::fstat(file_.get(), &info) != 0) return base::Error::from_errno(errno, ingest_path_);
  auto left = static_cast<std::uint64_t>(info.st_size);
  if (left > descriptor_.size) {
    if (::ftruncate(file_.get(), 0) != 0) return base::Error::from_errno(errno, ingest_path_);
    left = 0;
  }
  std::string chunk(kWriteBytes, '\0');
  while (received_ < left) {
    TRY_VOID(ctx.check());
    TRY(const std::size_t size, read_at(file_.get(), chunk, received_, ingest_path_));
    if (size == 0) break;
    hasher_->update(std::string_view(chunk).substr(0, size));
    received_ += size;
  }
  inherited_ = received_;
  return {};
}

base::Status Blob::flush() {
  if (buffer_.empty()) return {};
  const std::uint64_t start = received_ - buffer_.size();
  TRY_VOID(write_at(file_.get(), buffer_, start, base::str("storing blob ", descriptor_.digest.text())));
  tell_readers();  // they may go on while we hash
  hasher_->update(buffer_);
  buffer_.clear();
  return {};
}

void Blob::tell_readers() {
  for (const base::Fd& growth : growth_) {
    // A full pipe, and a reader that is gone, need no news.
    if (::write(growth.get(), "", 1) < 0) continue;
  }
}

base::Status put_document(const Store& store, const Digest& digest, std::string_view bytes) {
  const std::string path = store.blob_path(digest);
  struct stat info {};
  if (::lstat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) &&
      store.read_document(digest, std::max<std::size_t>(bytes.size(), 1))) {
    return {};
  }
  return base::write_file_atomic(path, bytes, 0400, base::Durable::kYes);
}

namespace {

base::Status write_at(int fd, std::string_view bytes, std::uint64_t offset, std::string_view what) {
  while (!bytes.empty()) {
    const ssize_t size = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return base::Error::from_errno(errno, what);
    bytes.remove_prefix(static_cast<std::size_t>(size));
    offset += static_cast<std::uint64_t>(size);
  }
  return {};
}

base::Result<std::size_t> read_at(int fd, std::span<char> out, std::uint64_t offset, std::string_view what) {
  for (;;) {
    const ssize_t size = ::pread(fd, out.data(), out.size(), static_cast<off_t>(offset));
    if (size >= 0) return static_cast<std::size_t>(size);
    if (errno != EINTR) return base::Error::from_errno(errno, base::str("reading ", what));
  }
}

}  // namespace

}  // namespace oci::fetch
