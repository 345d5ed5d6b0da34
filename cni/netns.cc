#include "cni/netns.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/file.h"
#include "base/thread.h"

namespace cni {

namespace {

using base::Error;
using base::Result;
using base::Status;
using base::str;

constexpr long kNsfsMagic = 0x6e736673;

Status make_and_mount(const std::string& path);
Status raise_loopback();

}  // namespace

Status make_netns(const std::string& path) {
  TRY(const bool there, is_netns(path));
  if (there) return {};
  TRY_VOID(remove_netns(path));
  TRY_VOID(base::make_dirs(std::filesystem::path(path).parent_path(), 0755));
  TRY([[maybe_unused]] const base::Fd file, base::open_file(path, O_RDONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0444));
  // A thread that was in another namespace is good for nothing else: it ends with the work.
  Status made = Error::internal("not made");
  {
    auto thread = base::start_thread("netns", [&] { made = make_and_mount(path); });
    if (!thread) made = std::move(thread).error();
  }
  if (made) return made;
  [[maybe_unused]] const auto removed = remove_netns(path);
  return std::move(made).error().wrap(str("making the network namespace ", path));
}

Status remove_netns(const std::string& path) {
  if (::umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0 && errno != EINVAL && errno != ENOENT &&
      errno != ENOTDIR) {
    return Error::from_errno(errno, str("unmounting the network namespace ", path));
  }
  if (::unlink(path.c_str()) == 0 || errno == ENOENT || errno == ENOTDIR) return {};
  return Error::from_errno(errno, str("removing the network namespace ", path));
}

Result<bool> is_netns(const std::string& path) {
  // Not opened before it is known to be no FIFO or device.
  struct statfs info {};
  if (::statfs(path.c_str(), &info) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) return false;
    return Error::from_errno(errno, str("looking at the network namespace ", path));
  }
  if (info.f_type != kNsfsMagic) return false;
  TRY(const base::Fd file, base::open_file(path, O_RDONLY));
  const int type = ::ioctl(file.get(), NS_GET_NSTYPE);
  if (type < 0) return Error::from_errno(errno, str("looking at the network namespace ", path));
  return type == CLONE_NEWNET;
}

Result<bool> has_interface(const std::string& path, const std::string& name) {
  TRY(const base::Fd file, base::open_file(path, O_RDONLY));
  Result<bool> found = Error::internal("not looked");
  {
    auto thread = base::start_thread("netns", [&] {
      if (::setns(file.get(), CLONE_NEWNET) != 0) {
        found = Error::from_errno(errno, str("entering the network namespace ", path));
      } else {
        found = ::if_nametoindex(name.c_str()) != 0;
      }
    });
    if (!thread) return std::move(thread).error();
  }
  return found;
}

namespace {

Status make_and_mount(const std::string& path) {
  if (::unshare(CLONE_NEWNET) != 0) return Error::from_errno(errno, "unshare");
  TRY_VOID(raise_loopback());
  // A kernel without IPv6 has no such file, and one that is not to be written is not worth a start.
  for (const char* file : {"/proc/sys/net/ipv6/conf/default/accept_dad", "/proc/sys/net/ipv6/conf/all/accept_dad"}) {
    [[maybe_unused]] const auto written = base::write_file(file, "0");
  }
  if (::mount("/proc/thread-self/ns/net", path.c_str(), nullptr, MS_BIND, nullptr) != 0) {
    return Error::from_errno(errno, "mounting it");
  }
  return {};
}

Status raise_loopback() {
  const base::Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return Error::from_errno(errno, "socket");
  ifreq request = {};
  std::strncpy(request.ifr_name, "lo", sizeof request.ifr_name - 1);
  if (::ioctl(socket.get(), SIOCGIFFLAGS, &request) != 0) return Error::from_errno(errno, "looking at lo");
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  if (::ioctl(socket.get(), SIOCSIFFLAGS, &request) != 0) return Error::from_errno(errno, "raising lo");
  return {};
}

}  // namespace
}  // namespace cni
