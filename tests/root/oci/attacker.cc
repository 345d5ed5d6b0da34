// attacker STAGE DATA_DIR PARENT SOCKET ABSTRACT
//
// Stands for a stage of the image helper that was taken over: enters the product's own sandbox, then tries what
// somebody would who wants out. Prints "name<TAB>error" for each try, "0" if it worked; test_attacker.py has what must
// come.
//   STAGE     fetch, unpack; or starter, which asks a starter for what a taken-over fetch stage would: "folder" or
//             "layer <hex>" instead of PARENT
//   PARENT    a process of root's; SOCKET, ABSTRACT: unix sockets that somebody listens on
#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/netlink.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "base/file.h"
#include "oci/fetch/sandbox/sandbox.h"
#include "oci/fetch/unpacker.h"
#include "oci/pull_protocol.h"
#include "oci/store.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

namespace {

struct Target {
  std::string data_dir;
  pid_t parent = 0;
  std::string socket;
  std::string abstract;
  int read_only_store = -1;
  int archive = -1;
  int terminal = STDERR_FILENO;
};

struct Try {
  std::string name;
  std::function<long(const Target&)> run;  ///< negative: errno says why not
};

constexpr unsigned long kHighHalf = 1ul << 32;  // of a register, where the kernel does not look

long call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0) {
  return ::syscall(number, a, b, c, d, e);
}
long pointer(const void* p) {
  return reinterpret_cast<long>(p);
}

long open_it(const std::string& path, int flags) {
  return ::open(path.c_str(), flags | O_CLOEXEC, 0600);
}
/// For what must not only be opened.
long read_it(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  char byte = 0;
  return fd < 0 ? fd : ::read(fd, &byte, 1) == 1 ? 0 : (errno = ENODATA, -1);
}

long connect_unix(int fd, const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::size_t size = std::min(name.size(), sizeof address.sun_path);
  std::memcpy(address.sun_path, name.data(), size);
  return ::connect(fd, reinterpret_cast<sockaddr*>(&address),
                   static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + size));
}
long connect_new(long domain, int type, const std::string& name) {
  const long fd = call(SYS_socket, domain, type, 0);
  return fd < 0 ? fd : connect_unix(static_cast<int>(fd), name);
}
long connect_pair(int type, const std::string& name) {
  int pair[2];
  if (::socketpair(AF_UNIX, type, 0, pair) != 0) return -1;
  return connect_unix(pair[0], name);
}

std::vector<Try> sockets() {
  return {
      {"unix socket", [](const Target& t) { return connect_new(AF_UNIX, SOCK_STREAM, t.socket); }},
      {"unix socket, high half",
       [](const Target& t) { return connect_new(static_cast<long>(kHighHalf | AF_UNIX), SOCK_STREAM, t.socket); }},
      {"abstract socket", [](const Target& t) { return connect_new(AF_UNIX, SOCK_STREAM, t.abstract); }},
      {"datagram to a socket", [](const Target& t) { return connect_new(AF_UNIX, SOCK_DGRAM, t.socket); }},
      {"pair of datagrams", [](const Target& t) { return connect_pair(SOCK_DGRAM, t.socket); }},
      {"pair of streams", [](const Target& t) { return connect_pair(SOCK_STREAM, t.abstract); }},
      {"raw packets", [](const Target&) { return call(SYS_socket, AF_PACKET, SOCK_RAW, 0x300); }},
      {"raw IP", [](const Target&) { return call(SYS_socket, AF_INET, SOCK_RAW, 1); }},
      {"audit", [](const Target&) { return call(SYS_socket, AF_NETLINK, SOCK_RAW, NETLINK_AUDIT); }},
      {"vsock", [](const Target&) { return call(SYS_socket, AF_VSOCK, SOCK_STREAM, 0); }},
      {"kernel crypto", [](const Target&) { return call(SYS_socket, AF_ALG, SOCK_SEQPACKET, 0); }},
      {"descriptor of a peer",
       [](const Target&) -> long {
         int pair[2];
         int fd = -1;
         socklen_t size = sizeof fd;
         if (::socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return -1;
         return ::getsockopt(pair[0], SOL_SOCKET, SO_PEERPIDFD, &fd, &size);
       }},
  };
}

std::vector<Try> terminal() {
  static char newline = '\n';
  static char paste = 3;
  return {
      {"TIOCSTI", [](const Target& t) { return call(SYS_ioctl, t.terminal, TIOCSTI, pointer(&newline)); }},
      {"TIOCSTI, high half",
       [](const Target& t) {
         return call(SYS_ioctl, t.terminal, static_cast<long>(kHighHalf | TIOCSTI), pointer(&newline));
       }},
      {"TIOCLINUX", [](const Target& t) { return call(SYS_ioctl, t.terminal, TIOCLINUX, pointer(&paste)); }},
      {"TIOCSCTTY", [](const Target& t) { return call(SYS_ioctl, t.terminal, TIOCSCTTY, 1); }},
      {"TIOCSETD", [](const Target& t) { return call(SYS_ioctl, t.terminal, TIOCSETD, pointer(&newline)); }},
      {"/dev/tty", [](const Target&) { return open_it("/dev/tty", O_RDWR); }},
  };
}

std::vector<Try> files() {
  const auto in = [](const char* name) { return [name](const Target& t) { return t.data_dir + "/" + name; }; };
  const auto record = in("tasks/a/record.json");
  const auto tasks = in("tasks");
  const auto other = in("somebodys");
  return {
      {"read passwords", [](const Target&) { return open_it("/etc/shadow", O_RDONLY); }},
      {"read a key", [](const Target&) { return open_it("/etc/ssl/private", O_RDONLY); }},
      {"read root's files", [](const Target&) { return open_it("/root", O_RDONLY); }},
      {"see sockets", [](const Target& t) { return open_it(t.socket, O_PATH); }},
      {"change the host", [](const Target&) { return open_it("/etc/new", O_WRONLY | O_CREAT); }},
      {"change a library", [](const Target&) { return open_it("/usr/lib/new", O_WRONLY | O_CREAT); }},
      {"read a record", [record](const Target& t) { return open_it(record(t), O_RDONLY); }},
      {"change a record", [record](const Target& t) { return open_it(record(t), O_WRONLY | O_CREAT); }},
      {"make a task", [tasks](const Target& t) { return ::mkdirat(AT_FDCWD, (tasks(t) + "/evil").c_str(), 0700); }},
      {"rename tasks",
       [tasks](const Target& t) {
         return ::renameat(AT_FDCWD, tasks(t).c_str(), AT_FDCWD, (t.data_dir + "/x").c_str());
       }},
      {"replace tasks",
       [tasks](const Target& t) {
         const std::string mine = t.data_dir + "/mine";
         ::mkdirat(AT_FDCWD, mine.c_str(), 0700);
         return ::renameat(AT_FDCWD, mine.c_str(), AT_FDCWD, tasks(t).c_str());
       }},
      {"exchange tasks",
       [tasks](const Target& t) {
         return call(SYS_renameat2, AT_FDCWD, pointer((t.data_dir + "/ingest").c_str()), AT_FDCWD,
                     pointer(tasks(t).c_str()), 2);
       }},
      {"remove tasks", [tasks](const Target& t) { return ::unlinkat(AT_FDCWD, tasks(t).c_str(), AT_REMOVEDIR); }},
      {"uncover tasks", [tasks](const Target& t) { return ::umount2(tasks(t).c_str(), MNT_DETACH); }},
      {"record by the read-only store",
       [](const Target& t) { return ::openat(t.read_only_store, "tasks/a/record.json", O_RDONLY); }},
      {"write by the read-only store",
       [](const Target& t) { return ::openat(t.read_only_store, "ingest/x", O_WRONLY | O_CREAT, 0600); }},
      {"up from the store", [](const Target& t) { return ::openat(t.read_only_store, "../../etc/shadow", O_RDONLY); }},
      {"read somebody's file", [other](const Target& t) { return read_it(other(t)); }},
      {"change somebody's file", [other](const Target& t) { return open_it(other(t), O_WRONLY); }},
      {"remove somebody's file", [other](const Target& t) { return ::unlinkat(AT_FDCWD, other(t).c_str(), 0); }},
      {"write to the archive",
       [](const Target& t) { return open_it("/proc/self/fd/" + std::to_string(t.archive), O_WRONLY); }},
      {"let users in", [](const Target& t) { return ::chmod(t.data_dir.c_str(), 0755); }},
      {"let users in by descriptor", [](const Target& t) { return call(SYS_fchmod, t.read_only_store, 0711); }},
      {"link in ingest",
       [](const Target& t) { return ::symlinkat("/etc", AT_FDCWD, (t.data_dir + "/ingest/evil").c_str()); }},
      {"device in ingest",
       [](const Target& t) {
         return ::mknodat(AT_FDCWD, (t.data_dir + "/ingest/null").c_str(), S_IFCHR | 0600, 0x103);
       }},
      {"core pattern", [](const Target&) { return open_it("/proc/sys/kernel/core_pattern", O_WRONLY); }},
      {"cgroup", [](const Target&) { return open_it("/sys/fs/cgroup/cgroup.procs", O_WRONLY); }},
      {"sysrq", [](const Target&) { return open_it("/proc/sysrq-trigger", O_WRONLY); }},
  };
}

std::vector<Try> processes() {
  const auto of_parent = [](const char* name) {
    return [name](const Target& t) { return open_it("/proc/" + std::to_string(t.parent) + "/" + name, O_RDONLY); };
  };
  static char buffer[8];
  static iovec local{buffer, sizeof buffer};
  return {
      {"kill", [](const Target& t) { return ::kill(t.parent, SIGKILL); }},
      {"tgkill", [](const Target& t) { return call(SYS_tgkill, t.parent, t.parent, SIGKILL); }},
      {"queue a signal",
       [](const Target& t) {
         siginfo_t info{};
         return call(SYS_rt_sigqueueinfo, t.parent, SIGTERM, pointer(&info));
       }},
      {"signal by F_SETOWN", [](const Target& t) { return call(SYS_fcntl, STDIN_FILENO, F_SETOWN, t.parent); }},
      {"signal by F_SETOWN, high half",
       [](const Target& t) {
         return call(SYS_fcntl, STDIN_FILENO, static_cast<long>(kHighHalf | F_SETOWN), t.parent);
       }},
      {"signal by F_SETSIG", [](const Target&) { return call(SYS_fcntl, STDIN_FILENO, F_SETSIG, SIGKILL); }},
      {"pidfd", [](const Target& t) { return call(SYS_pidfd_open, t.parent, 0); }},
      {"ptrace", [](const Target& t) { return ::ptrace(PTRACE_ATTACH, t.parent, nullptr, nullptr); }},
      {"read memory",
       [](const Target& t) { return ::syscall(SYS_process_vm_readv, t.parent, &local, 1, &local, 1, 0); }},
      {"write memory",
       [](const Target& t) { return ::syscall(SYS_process_vm_writev, t.parent, &local, 1, &local, 1, 0); }},
      {"schedule",
       [](const Target& t) {
         const sched_param nothing{};
         return ::sched_setscheduler(t.parent, SCHED_IDLE, &nothing);
       }},
      {"priority", [](const Target& t) { return ::setpriority(PRIO_PROCESS, static_cast<id_t>(t.parent), 19); }},
      {"limit",
       [](const Target& t) {
         const rlimit none{0, 0};
         return call(SYS_prlimit64, t.parent, RLIMIT_NOFILE, pointer(&none));
       }},
      {"/proc/PARENT/mem", of_parent("mem")},
      {"/proc/PARENT/root", of_parent("root")},
      {"/proc/PARENT/environ", of_parent("environ")},
      {"/proc/1/root", [](const Target&) { return open_it("/proc/1/root", O_RDONLY); }},
      {"/proc/self/mem", [](const Target&) { return open_it("/proc/self/mem", O_RDWR); }},
  };
}

std::vector<Try> rights() {
  static const char* const argv[] = {"su", nullptr};
  static const char* const env[] = {nullptr};
  return {
      {"setuid", [](const Target&) { return call(SYS_setuid, 1000); }},
      {"setgroups", [](const Target&) { return call(SYS_setgroups, 0, 0); }},
      {"capset", [](const Target&) { return call(SYS_capset, 0, 0); }},
      {"ambient capability", [](const Target&) { return ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 21, 0, 0); }},
      {"securebits", [](const Target&) { return ::prctl(PR_SET_SECUREBITS, 0, 0, 0, 0); }},
      {"dumpable", [](const Target&) { return ::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); }},
      {"another filter", [](const Target&) { return call(SYS_seccomp, 1, 0, 0); }},
      {"a setuid program",
       [](const Target&) { return call(SYS_execve, pointer("/usr/bin/su"), pointer(argv), pointer(env)); }},
      {"a program by descriptor",
       [](const Target&) { return call(SYS_execveat, 0, pointer(""), pointer(argv), pointer(env), AT_EMPTY_PATH); }},
      {"a program in memory", [](const Target&) { return call(SYS_memfd_create, pointer("x"), 0); }},
      {"fork", [](const Target&) { return call(SYS_clone, SIGCHLD); }},
      {"fork, new user namespace", [](const Target&) { return call(SYS_clone, SIGCHLD | CLONE_NEWUSER); }},
      {"clone3", [](const Target&) { return call(SYS_clone3, 0, 0); }},
      {"unshare", [](const Target&) { return ::unshare(CLONE_NEWUSER); }},
      {"setns", [](const Target&) { return ::setns(0, 0); }},
      {"mount", [](const Target&) { return ::mount("none", "/usr/lib", "tmpfs", 0, nullptr); }},
      {"open_tree", [](const Target&) { return call(SYS_open_tree, AT_FDCWD, pointer("/"), 1); }},
      {"move_mount",
       [](const Target&) { return call(SYS_move_mount, AT_FDCWD, pointer("/"), AT_FDCWD, pointer("/")); }},
      {"fsopen", [](const Target&) { return call(SYS_fsopen, pointer("tmpfs"), 0); }},
      {"pivot_root", [](const Target&) { return call(SYS_pivot_root, pointer("."), pointer(".")); }},
      {"chroot", [](const Target&) { return ::chroot("/usr"); }},
      {"file by handle", [](const Target&) { return call(SYS_open_by_handle_at, AT_FDCWD, 0, 0); }},
      {"handle of a file", [](const Target&) { return call(SYS_name_to_handle_at, AT_FDCWD, pointer("/"), 0, 0, 0); }},
  };
}

std::vector<Try> kernel() {
  return {
      {"bpf", [](const Target&) { return call(SYS_bpf, 0, 0, 0); }},
      {"io_uring", [](const Target&) { return call(SYS_io_uring_setup, 1, 0); }},
      {"perf", [](const Target&) { return call(SYS_perf_event_open, 0, 0, -1, -1, 0); }},
      {"userfaultfd", [](const Target&) { return call(SYS_userfaultfd, 0); }},
      {"keyctl", [](const Target&) { return call(SYS_keyctl, KEYCTL_GET_KEYRING_ID, -3, 0); }},
      {"add_key", [](const Target&) { return call(SYS_add_key, 0, 0, 0, 0, 0); }},
      {"kexec", [](const Target&) { return call(SYS_kexec_load, 0, 0, 0, 0); }},
      {"reboot", [](const Target&) { return call(SYS_reboot, 0, 0, 0, 0); }},
      {"init_module", [](const Target&) { return call(SYS_init_module, 0, 0, 0); }},
      {"finit_module", [](const Target&) { return call(SYS_finit_module, -1, 0, 0); }},
      {"delete_module", [](const Target&) { return call(SYS_delete_module, 0, 0); }},
      {"swapon", [](const Target&) { return call(SYS_swapon, 0, 0); }},
      {"syslog", [](const Target&) { return call(SYS_syslog, 3, 0, 0); }},
      {"set the clock", [](const Target&) { return call(SYS_clock_settime, 0, 0); }},
      {"set the host name", [](const Target&) { return call(SYS_sethostname, 0, 0); }},
      {"acct", [](const Target&) { return call(SYS_acct, 0); }},
      {"quotactl", [](const Target&) { return call(SYS_quotactl, 0, 0, 0, 0); }},
      {"personality", [](const Target&) { return call(SYS_personality, 0xffffffff); }},
      {"fanotify", [](const Target&) { return call(SYS_fanotify_init, 0, 0); }},
  };
}

/// What only the unpack stage has anything to do with.
std::vector<Try> unpacking() {
  return {
      {"internet", [](const Target&) { return call(SYS_socket, AF_INET, SOCK_STREAM, 0); }},
      {"machine code",
       [](const Target&) -> long {
         void* page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
         return page == MAP_FAILED ? -1 : 0;
       }},
      {"change a lower layer", [](const Target&) { return open_it("/layers/0/new", O_WRONLY | O_CREAT); }},
      {"follow a link",
       [](const Target&) -> long {
         if (::symlinkat("/layers/0", AT_FDCWD, "/staging/link") != 0) return 0;
         return open_it("/staging/link", O_RDONLY);
       }},
      {"open a device",
       [](const Target&) -> long {
         if (::mknodat(AT_FDCWD, "/staging/null", S_IFCHR | 0600, 0x103) != 0) return 0;
         return open_it("/staging/null", O_RDONLY);
       }},
      {"up from staging", [](const Target&) { return open_it("/staging/../../../etc/shadow", O_RDONLY); }},
      {"change the root", [](const Target&) { return ::mkdirat(AT_FDCWD, "/new", 0700); }},
  };
}

void run(const std::vector<Try>& tries, const Target& target) {
  for (const Try& one : tries) {
    errno = 0;
    const bool works = one.run(target) >= 0;
    const char* name = ::strerrorname_np(errno);
    std::printf("%s\t%s\n", one.name.c_str(), works ? "0" : name == nullptr ? "?" : name);
    std::fflush(stdout);
  }
}

int fail(const base::Error& error) {
  std::printf("failed\t%s\n", error.message.c_str());
  return 1;
}

/// As a fetch stage would that sends whatever it likes to its starter.
int ask_starter(const std::string& data_dir, const std::string& folder, const std::string& layer) {
  auto starter = oci::fetch::UnpackStarter::start();
  if (!starter) return fail(starter.error());
  const auto ctx = base::Context::background().with_timeout(std::chrono::seconds(20));
  if (auto set = (*starter)->set_store(ctx, data_dir); !set) return fail(set.error());
  oci::fetch::StartUnpack request{folder, {}};
  if (!layer.empty()) request.layers.push_back(layer);
  const auto unpacker = (*starter)->start_unpack(ctx, request);
  if (!unpacker) return fail(unpacker.error());
  std::printf("started\t0\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  const std::string stage = argv[1];
  Target target;
  target.data_dir = argv[2];
  if (stage == "starter") return ask_starter(target.data_dir, argv[3], argc > 4 ? argv[4] : "");
  if (argc != 6) return 2;
  target.parent = std::stoi(argv[3]);
  target.socket = argv[4];
  target.abstract = std::string(1, '\0') + argv[5];
  if (auto entered = oci::fetch::enter_sandbox(); !entered) return fail(entered.error());
  if (stage == "fetch") {
    target.archive = oci::kArchiveFd;  // given by the test
    oci::fetch::FetchView view;
    view.data_dir = target.data_dir;
    view.archive_fd = target.archive;
    auto entered = oci::fetch::enter_fetch_sandbox(view);
    if (!entered) return fail(entered.error());
    target.read_only_store = entered->release();
    run(sockets(), target);
  } else {
    const oci::fetch::UnpackView view{target.data_dir, "ingest/mine", {"layers/below"}};
    if (auto entered = oci::fetch::enter_unpack_sandbox(view); !entered) return fail(entered.error());
    run(unpacking(), target);
  }
  for (const auto& tries : {terminal(), files(), processes(), rights(), kernel()}) run(tries, target);
  std::fflush(stdout);
  ::_exit(0);
}
