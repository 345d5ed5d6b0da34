#include "oci/fetch/sandbox/filter.h"

#include <fcntl.h>
#include <linux/netlink.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string>
#include <string_view>

namespace oci::fetch {

namespace {

/// Memory, time, threads, descriptors, and files below a directory descriptor.
constexpr std::string_view kBoth =
    "brk clock_getres clock_gettime clock_nanosleep close close_range copy_file_range dup dup3 eventfd2 exit "
    "exit_group fadvise64 fallocate fstat fstatfs ftruncate futex get_robust_list getcpu getdents64 "
    "getpid getppid getrandom getrusage gettid gettimeofday lseek madvise membarrier mkdirat mremap munmap "
    "nanosleep newfstatat openat openat2 pipe2 poll ppoll pread64 preadv pwrite64 pwritev read readlinkat readv "
    "recvfrom recvmsg restart_syscall rseq rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity "
    "sched_getparam sched_getscheduler sched_yield sendmsg sendto set_robust_list sigaltstack statx sysinfo "
    "unlinkat utimensat write writev";

/// What layers are made of. chmod and fchmodat are for special files, by the name of their descriptor.
constexpr std::string_view kUnpackOnly =
    "chmod fchmod fchmodat fchown fchownat fgetxattr flistxattr fsetxattr getxattr lgetxattr linkat listxattr "
    "llistxattr "
    "lsetxattr mknodat symlinkat";

/// Names of hosts, TCP, TLS, and commits. Paths are of data_dir, or of a read-only view.
constexpr std::string_view kFetchOnly =
    "access bind connect epoll_create1 epoll_ctl epoll_pwait epoll_wait faccessat faccessat2 "
    "fdatasync flock fsync getcwd getegid geteuid getgid getpeername getsockname getuid lstat mkdir mmap mprotect "
    "open pidfd_send_signal pselect6 readlink recvmmsg rename renameat renameat2 rmdir rt_sigtimedwait select "
    "sendmmsg shutdown stat statfs syncfs time umask uname unlink wait4";

/// Not F_SETOWN, F_SETSIG and their kin: who is root may have the kernel send any signal to any process by them.
constexpr int kFcntls[] = {F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL};

/// Nothing that would let the host's users into data_dir: layers hold setuid files and devices.
constexpr mode_t kFetchModes[] = {0400, 0600, 0700};

/// Not those of terminals: TIOCSTI and TIOCLINUX type into them.
constexpr unsigned long kIoctls[] = {FIONBIO, FIONREAD};

/// The kernel's SO_PASSPIDFD and SO_PEERPIDFD would give a descriptor of a process to signal; those below are older.
constexpr scmp_datum_t kSocketOptionMax = 75;

struct Release {
  void operator()(void* context) const { ::seccomp_release(context); }
};
using Filter = std::unique_ptr<void, Release>;

base::Status allow(const Filter& filter, std::string_view names);
base::Status allow_if(const Filter& filter, const char* name, std::initializer_list<scmp_arg_cmp> conditions);
base::Status allow_sockets(const Filter& filter);

/// What the kernel takes as 32 bits is compared as such: a caller may leave anything in the other half of the register.
constexpr scmp_arg_cmp is_int(unsigned argument, std::uint32_t value) {
  return {argument, SCMP_CMP_MASKED_EQ, 0xffffffff, value};
}

base::Status failed(int rc, std::string_view what) {
  return base::Error::from_errno(-rc, base::str("limiting the image helper's system calls: ", what));
}

}  // namespace

base::Status load_filter(Stage stage) {
  const Filter filter(::seccomp_init(SCMP_ACT_ERRNO(ENOSYS)));
  if (!filter) return failed(-ENOMEM, "seccomp_init");
  // The search for a call takes a few comparisons instead of a hundred.
  ::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);
  TRY_VOID(allow(filter, kBoth));
  // Threads, but no processes. clone3 hides its flags from us; without it, libc uses clone.
  TRY_VOID(allow_if(filter, "clone", {{0, SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD}}));
  TRY_VOID(allow_if(filter, "tgkill", {{0, SCMP_CMP_EQ, static_cast<scmp_datum_t>(::getpid()), 0}}));  // abort()
  TRY_VOID(allow_if(filter, "prctl", {{0, SCMP_CMP_EQ, PR_SET_NAME, 0}}));
  for (const int command : kFcntls) {
    TRY_VOID(allow_if(filter, "fcntl", {is_int(1, static_cast<std::uint32_t>(command))}));
  }
  if (stage == Stage::kFetch) {
    TRY_VOID(allow(filter, kFetchOnly));  // mmap, too: a resolver loads libraries
    TRY_VOID(allow_sockets(filter));
    for (const mode_t mode : kFetchModes) {
      TRY_VOID(allow_if(filter, "chmod", {is_int(1, mode)}));
      TRY_VOID(allow_if(filter, "fchmod", {is_int(1, mode)}));
      TRY_VOID(allow_if(filter, "fchmodat", {is_int(2, mode)}));
    }
    for (const unsigned long request : kIoctls) {
      TRY_VOID(allow_if(filter, "ioctl", {is_int(1, static_cast<std::uint32_t>(request))}));
    }
  } else {
    TRY_VOID(allow(filter, kUnpackOnly));
    TRY_VOID(allow_if(filter, "mmap", {{2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0}}));
    TRY_VOID(allow_if(filter, "mprotect", {{2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0}}));
  }
  if (const int rc = ::seccomp_load(filter.get()); rc != 0) return failed(rc, "seccomp_load");
  return {};
}

namespace {

base::Status allow(const Filter& filter, std::string_view names) {
  while (!names.empty()) {
    const std::string name(names.substr(0, names.find(' ')));
    names.remove_prefix(std::min(names.size(), name.size() + 1));
    TRY_VOID(allow_if(filter, name.c_str(), {}));
  }
  return {};
}

/// The internet, and what a resolver asks the kernel about addresses. Of unix sockets only pairs, and of these only the
/// kinds that stay connected to each other: one of datagrams can be sent to any name, also those of other programs.
base::Status allow_sockets(const Filter& filter) {
  constexpr scmp_datum_t kTypeMask = 0xf;  // SOCK_CLOEXEC and SOCK_NONBLOCK lie above
  for (const int domain : {AF_INET, AF_INET6}) {
    for (const int type : {SOCK_STREAM, SOCK_DGRAM}) {
      TRY_VOID(allow_if(filter, "socket",
                        {is_int(0, static_cast<std::uint32_t>(domain)),
                         {1, SCMP_CMP_MASKED_EQ, kTypeMask, static_cast<scmp_datum_t>(type)}}));
    }
  }
  TRY_VOID(allow_if(filter, "socket", {is_int(0, AF_NETLINK), is_int(2, NETLINK_ROUTE)}));
  for (const int type : {SOCK_STREAM, SOCK_SEQPACKET}) {
    TRY_VOID(allow_if(filter, "socketpair",
                      {is_int(0, AF_UNIX), {1, SCMP_CMP_MASKED_EQ, kTypeMask, static_cast<scmp_datum_t>(type)}}));
  }
  // Libraries then take a name service for one that does not run.
  const int number = ::seccomp_syscall_resolve_name("socket");
  const scmp_arg_cmp unix_domain[] = {is_int(0, AF_UNIX)};
  if (const int rc = ::seccomp_rule_add_array(filter.get(), SCMP_ACT_ERRNO(EAFNOSUPPORT), number, 1, unix_domain);
      rc != 0) {
    return failed(rc, "socket");
  }
  TRY_VOID(allow_if(filter, "getsockopt", {{2, SCMP_CMP_LE, kSocketOptionMax, 0}}));
  return allow_if(filter, "setsockopt", {{2, SCMP_CMP_LE, kSocketOptionMax, 0}});
}

/// A name that this machine does not have (open and stat on arm64) or that this libseccomp does not know is left out.
base::Status allow_if(const Filter& filter, const char* name, std::initializer_list<scmp_arg_cmp> conditions) {
  const int number = ::seccomp_syscall_resolve_name(name);
  if (number < 0) return {};
  const int rc = ::seccomp_rule_add_array(filter.get(), SCMP_ACT_ALLOW, number,
                                          static_cast<unsigned>(conditions.size()), conditions.begin());
  return rc == 0 ? base::Status() : failed(rc, name);
}

}  // namespace

}  // namespace oci::fetch
