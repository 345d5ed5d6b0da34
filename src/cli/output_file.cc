#include "cli/output_file.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <string_view>

#include "base/file.h"

namespace cli {

using base::Context;
using base::Error;
using base::Fd;
using base::Result;
using base::Status;
using base::str;

namespace {

constexpr std::size_t kTempNameBytesMax = 200;  // of the target's name; with what is added it is still a file name
constexpr int kLinksMax = 40;                   // as in the kernel
constexpr std::chrono::milliseconds kReaderPoll{50};

std::string random_hex();
Result<int> given_descriptor(int fd, const std::string& output);
Result<Fd> open_special(const Context& ctx, const std::string& output, mode_t mode);

}  // namespace

Result<std::filesystem::path> behind_links(const std::string& path) {
  TRY(const std::string absolute, base::absolute_path(path));
  std::filesystem::path at = absolute;
  for (int followed = 0; followed <= kLinksMax; ++followed) {
    if (!at.has_filename()) at = at.parent_path();  // "folder/"
    std::error_code failed;
    const auto parent = std::filesystem::weakly_canonical(at.parent_path(), failed);
    if (failed) return Error::from_errno(failed.value(), path);
    const auto place = parent / at.filename();
    const auto target = std::filesystem::read_symlink(place, failed);
    const bool is_no_link = failed.value() == EINVAL || failed.value() == ENOENT;
    if (is_no_link) return place;
    if (failed) return Error::from_errno(failed.value(), path);
    at = parent / target;
  }
  return Error::from_errno(ELOOP, path);
}

Unfinished::Unfinished(Fd parent, std::string name, std::string temp_name, Kind kind)
    : parent_(std::move(parent)), name_(std::move(name)), temp_name_(std::move(temp_name)), kind_(kind) {}

Result<std::unique_ptr<Unfinished>> Unfinished::create(const std::filesystem::path& target, Kind kind) {
  TRY(Fd parent, base::open_file(target.parent_path(), O_RDONLY | O_DIRECTORY));
  const std::string name = target.filename();
  std::unique_ptr<Unfinished> made(new Unfinished(
      std::move(parent), name, str(base::kTempPrefix, name.substr(0, kTempNameBytesMax), "-", random_hex()), kind));
  const int dir = made->parent_.get();
  int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
  if (kind == Kind::kFolder) {
    if (::mkdirat(dir, made->temp_name_.c_str(), 0700) != 0) {
      return Error::from_errno(errno, str("creating a folder beside ", target.native()));
    }
    made->is_ours_ = true;
    flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
  }
  auto fd = base::open_at(dir, made->temp_name_, flags, 0600);
  if (!fd) return Error::from_errno(fd.error().sys_errno, str("creating a file beside ", target.native()));
  made->fd_ = *std::move(fd);
  made->is_ours_ = true;
  return made;
}

Unfinished::~Unfinished() {
  if (!is_ours_) return;
  fd_.reset();
  if (auto removed = base::remove_tree_at(parent_.get(), temp_name_); !removed) return;  // its name says what it is
}

Status Unfinished::finish() {
  const bool is_folder = kind_ == Kind::kFolder;
  if (is_folder && ::fchmod(fd_.get(), 0755) != 0) return Error::from_errno(errno, str("the mode of ", name_));
  if ((is_folder ? ::fsync(fd_.get()) : ::fdatasync(fd_.get())) != 0) {
    return Error::from_errno(errno, str("writing ", name_));
  }
  if (::renameat(parent_.get(), temp_name_.c_str(), parent_.get(), name_.c_str()) != 0) {
    return Error::from_errno(errno, str("naming it ", name_));
  }
  is_ours_ = false;
  if (::fsync(parent_.get()) != 0) return Error::from_errno(errno, str("writing the folder of ", name_));
  return {};
}

std::optional<int> stream_of(const std::string& output) {
  if (output.empty() || output == "-" || output == "/dev/stdout") return STDOUT_FILENO;
  if (output == "/dev/stderr") return STDERR_FILENO;
  for (const std::string_view folder : {"/dev/fd/", "/proc/self/fd/"}) {
    if (!output.starts_with(folder)) continue;
    const char* const end = output.data() + output.size();
    int fd = -1;
    const auto [at, error] = std::from_chars(output.data() + folder.size(), end, fd);
    if (error == std::errc() && at == end && fd >= 0) return fd;
  }
  return std::nullopt;
}

bool is_terminal(const std::string& output) {
  const auto stream = stream_of(output);
  return stream && ::isatty(*stream) == 1;
}

Result<OutputFile> OutputFile::open(const Context& ctx, const std::string& output) {
  OutputFile out;
  if (const auto stream = stream_of(output)) {
    TRY(out.stream_, given_descriptor(*stream, output));
    return out;
  }
  struct stat info {};
  const bool is_there = ::stat(output.c_str(), &info) == 0;
  if (!is_there && errno != ENOENT) return Error::from_errno(errno, output);
  if (is_there && !S_ISREG(info.st_mode)) {
    TRY(out.opened_, open_special(ctx, output, info.st_mode));
    return out;
  }
  TRY(const auto place, behind_links(output));
  TRY(out.file_, Unfinished::create(place, Unfinished::Kind::kFile));
  return out;
}

namespace {

std::string random_hex() {
  std::array<std::uint8_t, 16> random{};
  CHECK(::getrandom(random.data(), random.size(), 0) == static_cast<ssize_t>(random.size()));
  std::string out;
  for (const std::uint8_t byte : random) {
    out += "0123456789abcdef"[byte >> 4];
    out += "0123456789abcdef"[byte & 0xf];
  }
  return out;
}

// All of our own descriptors end with an exec, and those that came by one do not.
Result<int> given_descriptor(int fd, const std::string& output) {
  const int flags = ::fcntl(fd, F_GETFD);
  if (flags >= 0 && (flags & FD_CLOEXEC) == 0) return fd;
  return Error::invalid_argument(
      str(output.empty() ? "standard output" : output, " is no open file: redirect it, or name a file"));
}

// Without O_NONBLOCK, open(2) of a FIFO would wait for its reader and hear of no signal: they are blocked here.
Result<Fd> open_special(const Context& ctx, const std::string& output, mode_t mode) {
  if (S_ISDIR(mode)) return Error::invalid_argument(str(output, " is a folder: name a file in it"));
  if (S_ISSOCK(mode)) return Error::invalid_argument(str(output, " is a socket: name a file, a FIFO or a device"));
  while (true) {
    auto fd = base::open_file(output, O_WRONLY | O_NONBLOCK | O_NOCTTY);
    if (fd || fd.error().sys_errno != ENXIO || !S_ISFIFO(mode)) return fd;
    TRY_VOID(ctx.sleep(kReaderPoll));
  }
}

}  // namespace
}  // namespace cli
