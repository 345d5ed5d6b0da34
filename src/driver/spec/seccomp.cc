// The default seccomp profile: which system calls a container may make. Written out per rule as containerd and Docker
// have agreed on it; rules that depend on capabilities come after the capabilities are known.
// spec: runtime-spec config-linux.md "Seccomp"
#include <array>
#include <sstream>

#include "base/json.h"
#include "driver/spec/security.h"

namespace driver {

using base::Json;

namespace {

struct ArchRule {
  std::string_view arch;
  std::string_view names;
};
struct CapabilityRule {
  std::string_view capability;
  std::string_view names;
};

constexpr int kEnosys = 38;
/// NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. NEWTIME is not in it: in clone(2) its bit belongs to the
/// exit signal.
constexpr std::uint32_t kCloneNamespacesMask = 0x7E020000;

/// What every container may call, whatever its capabilities. Names that the runtime's libseccomp does not know are
/// ignored by it.
constexpr std::string_view kAlways =
    "_llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown "
    "chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 "
    "clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 "
    "epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd "
    "eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark "
    "fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock "
    "fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex "
    "futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu "
    "getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer "
    "getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 "
    "getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat "
    "inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents "
    "io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule "
    "landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount "
    "listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lsm_get_self_attr lsm_list_modules "
    "lsm_set_self_attr lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir "
    "mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open "
    "mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget "
    "msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause "
    "pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl "
    "pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read "
    "readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages "
    "removexattr removexattrat rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending "
    "rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 "
    "rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam "
    "sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr "
    "sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 "
    "send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid "
    "setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid "
    "setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid "
    "setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask "
    "sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync "
    "sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime "
    "timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime "
    "timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime "
    "utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev ";

constexpr std::string_view kPtrace = "process_vm_readv process_vm_writev ptrace";

constexpr std::array<ArchRule, 8> kByArch = {{
    {"386", "modify_ldt"},
    {"amd64", "arch_prctl modify_ldt"},
    {"arm", "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls"},
    {"arm64", "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls"},
    {"ppc64le", "sync_file_range2 swapcontext"},
    {"riscv64", "riscv_flush_icache riscv_hwprobe"},
    {"s390", "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"},
    {"s390x", "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"},
}};

constexpr std::array<CapabilityRule, 14> kByCapability = {{
    {"CAP_DAC_READ_SEARCH", "open_by_handle_at"},
    {"CAP_SYS_ADMIN",
     "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount "
     "open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare"},
    {"CAP_SYS_BOOT", "reboot"},
    {"CAP_SYS_CHROOT", "chroot"},
    {"CAP_SYS_MODULE", "delete_module init_module finit_module"},
    {"CAP_SYS_PACCT", "acct"},
    {"CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"},
    {"CAP_SYS_RAWIO", "iopl ioperm"},
    {"CAP_SYS_TIME", "settimeofday stime clock_settime clock_settime64"},
    {"CAP_SYS_TTY_CONFIG", "vhangup"},
    {"CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"},
    {"CAP_SYSLOG", "syslog"},
    {"CAP_BPF", "bpf"},
    {"CAP_PERFMON", "perf_event_open"},
}};

Json architectures_of(std::string_view arch);
Json names_of(std::string_view names);
Json allow(std::string_view names);
Json allow_if(std::string_view name, unsigned index, std::uint64_t value, std::string_view op,
              std::uint64_t value_two = 0);
void add_socket_rules(Json& rules);
void add_personality_rules(Json& rules);
void add_clone_rules(std::string_view arch, Json& rules);

}  // namespace

std::string_view own_arch() {
#if defined(__x86_64__)
  return "amd64";
#elif defined(__aarch64__)
  return "arm64";
#elif defined(__i386__)
  return "386";
#elif defined(__arm__)
  return "arm";
#elif defined(__powerpc64__)
  return "ppc64le";
#elif defined(__riscv)
  return "riscv64";
#elif defined(__s390x__)
  return "s390x";
#else
  return "";
#endif
}

Json default_seccomp_profile(const std::set<std::string>& bounding, int kernel_major, int kernel_minor) {
  return default_seccomp_profile_for(own_arch(), bounding, kernel_major, kernel_minor);
}

Json default_seccomp_profile_for(std::string_view arch, const std::set<std::string>& bounding, int kernel_major,
                                 int kernel_minor) {
  Json rules = Json::array({allow(kAlways)});
  add_socket_rules(rules);
  add_personality_rules(rules);
  // Before 4.8 ptrace(2) could be used to step over the filter.
  if (kernel_major > 4 || (kernel_major == 4 && kernel_minor >= 8)) rules.push_back(allow(kPtrace));
  for (const ArchRule& rule : kByArch) {
    if (!arch.empty() && rule.arch == arch) rules.push_back(allow(rule.names));
  }
  for (const CapabilityRule& rule : kByCapability) {
    if (bounding.contains(std::string(rule.capability))) rules.push_back(allow(rule.names));
  }
  if (!bounding.contains("CAP_SYS_ADMIN")) add_clone_rules(arch, rules);
  return {{"defaultAction", "SCMP_ACT_ERRNO"},
          {"defaultErrnoRet", 1},
          {"architectures", architectures_of(arch)},
          {"syscalls", std::move(rules)}};
}

namespace {

Json architectures_of(std::string_view arch) {
  if (arch == "amd64") return {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"};
  if (arch == "arm64") return {"SCMP_ARCH_ARM", "SCMP_ARCH_AARCH64"};
  if (arch == "s390x") return {"SCMP_ARCH_S390", "SCMP_ARCH_S390X"};
  if (arch == "riscv64") return Json::array({"SCMP_ARCH_RISCV64"});
  return Json::array();
}

Json names_of(std::string_view names) {
  Json out = Json::array();
  std::istringstream words{std::string(names)};
  for (std::string word; words >> word;) out.push_back(word);
  return out;
}

Json allow(std::string_view names) {
  return {{"names", names_of(names)}, {"action", "SCMP_ACT_ALLOW"}};
}

Json allow_if(std::string_view name, unsigned index, std::uint64_t value, std::string_view op,
              std::uint64_t value_two) {
  Json rule = allow(name);
  Json condition = {{"index", index}, {"value", value}, {"op", op}};
  if (value_two != 0 || op == "SCMP_CMP_MASKED_EQ") condition["valueTwo"] = value_two;
  rule["args"] = Json::array({std::move(condition)});
  return rule;
}

// All families but AF_ALG (38) and AF_VSOCK (40). One condition a rule: runc ORs two conditions on one argument.
void add_socket_rules(Json& rules) {
  constexpr std::uint64_t kAfAlg = 38;
  constexpr std::uint64_t kAfVsock = 40;
  rules.push_back(allow_if("socket", 0, kAfAlg, "SCMP_CMP_LT"));
  rules.push_back(allow_if("socket", 0, kAfAlg + 1, "SCMP_CMP_EQ"));
  rules.push_back(allow_if("socket", 0, kAfVsock, "SCMP_CMP_GT"));
}

// PER_LINUX, PER_LINUX32, each with UNAME26, and the query.
void add_personality_rules(Json& rules) {
  for (const std::uint64_t value : {0x0ull, 0x8ull, 0x20000ull, 0x20008ull, 0xffffffffull}) {
    rules.push_back(allow_if("personality", 0, value, "SCMP_CMP_EQ"));
  }
}

// clone(2) without new namespaces. clone3(2) passes its flags in memory, where no filter can look: ENOSYS makes the C
// libraries fall back to clone(2), EPERM would not.
void add_clone_rules(std::string_view arch, Json& rules) {
  const unsigned flags_index = arch == "s390" || arch == "s390x" ? 1 : 0;
  rules.push_back(allow_if("clone", flags_index, kCloneNamespacesMask, "SCMP_CMP_MASKED_EQ", 0));
  rules.push_back({{"names", {"clone3"}}, {"action", "SCMP_ACT_ERRNO"}, {"errnoRet", kEnosys}});
}

}  // namespace
}  // namespace driver
