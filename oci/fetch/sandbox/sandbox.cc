#include "oci/fetch/sandbox/sandbox.h"

#include <linux/capability.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <initializer_list>

#include "oci/fetch/sandbox/filter.h"
#include "oci/fetch/sandbox/mounts.h"

namespace oci::fetch {

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;  // their shadow memory is larger than any limit on addresses
#elif defined(__has_feature)
constexpr bool kSanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
constexpr bool kSanitized = false;
#endif

base::Status unshare(int flags, std::string_view what);
base::Status limit(int resource, rlim_t value, std::string_view what);
base::Status keep_capabilities(std::initializer_list<int> kept);

}  // namespace

base::Status enter_sandbox() {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return base::Error::from_errno(errno, "no_new_privs");
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return base::Error::from_errno(errno, "dumpable");
  TRY_VOID(limit(RLIMIT_CORE, 0, "RLIMIT_CORE"));
  // The one who started us has asked for this already; a person who runs us by hand has not.
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) return base::Error::from_errno(errno, "pdeathsig");
  // A terminal could be typed into from here. Who leads a process group already was given a session, or is a shell's
  // job that the terminal does not belong to.
  ::setsid();
  ::umask(0);
  return {};
}

base::Result<base::Fd> enter_fetch_sandbox(const FetchView& view) {
  if (view.archive_fd >= 0) TRY_VOID(prepare_archive(view.archive_fd));
  TRY_VOID(unshare(CLONE_NEWNS, "a mount namespace"));
  if (view.network == Network::kNo) TRY_VOID(unshare(CLONE_NEWNET, "a network namespace"));
  TRY(auto read_only, enter_fetch_root(view));
  // To clear away what the unpack stage has made: folders of any owner and mode.
  TRY_VOID(keep_capabilities({CAP_DAC_OVERRIDE, CAP_FOWNER}));
  TRY_VOID(load_filter(Stage::kFetch));
  return read_only;
}

base::Status enter_unpack_sandbox(const UnpackView& view) {
  TRY_VOID(unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS, "mount, network and IPC namespaces"));
  TRY_VOID(enter_unpack_root(view));
  if (!kSanitized) {
    // Threads share arenas, each of which reserves 64 MiB of addresses.
    ::mallopt(M_ARENA_MAX, 2);
    TRY_VOID(limit(RLIMIT_AS, kUnpackAddressBytesMax, "RLIMIT_AS"));
  }
  ::signal(SIGXFSZ, SIG_IGN);  // EFBIG says it better
  TRY_VOID(limit(RLIMIT_FSIZE, kUnpackFileBytesMax, "RLIMIT_FSIZE"));
  TRY_VOID(limit(RLIMIT_NOFILE, kUnpackFilesMax, "RLIMIT_NOFILE"));
  TRY_VOID(limit(RLIMIT_CPU, kUnpackCpuSecondsMax, "RLIMIT_CPU"));
  TRY_VOID(keep_capabilities({CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_MKNOD, CAP_SETFCAP}));
  return load_filter(Stage::kUnpack);
}

namespace {

base::Status unshare(int flags, std::string_view what) {
  if (::unshare(flags) == 0) return {};
  const int err = errno;
  auto error = base::Error::from_errno(err, base::str("the image helper cannot have ", what, " of its own"));
  if (err == EPERM) error.message += "; the plugin needs CAP_SYS_ADMIN (look at CapabilityBoundingSet of its service)";
  if (err == EINVAL) error.message += "; the kernel was built without";
  return error;
}

// Never raises: a service manager may have set less.
base::Status limit(int resource, rlim_t value, std::string_view what) {
  rlimit now{};
  if (::getrlimit(static_cast<__rlimit_resource>(resource), &now) != 0) return base::Error::from_errno(errno, what);
  const rlim_t least = std::min(now.rlim_max, value);
  const rlimit wanted{least, least};
  if (::setrlimit(static_cast<__rlimit_resource>(resource), &wanted) != 0) return base::Error::from_errno(errno, what);
  return {};
}

// What we do not have we do not need to give up; what is kept and not there is missed where it is used, by name.
base::Status keep_capabilities(std::initializer_list<int> kept) {
  std::uint64_t mask = 0;
  for (const int capability : kept) mask |= std::uint64_t{1} << capability;
  for (int capability = 0; ::prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability) {
    if ((mask >> capability & 1) != 0 || ::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0) continue;
    // Without CAP_SETPCAP the bounding set stays; with no_new_privs and no exec nothing can be had from it.
    if (errno != EPERM) return base::Error::from_errno(errno, "dropping capabilities");
  }
  ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
  if (::syscall(SYS_capget, &header, sets.data()) != 0) return base::Error::from_errno(errno, "reading capabilities");
  for (std::size_t i = 0; i < sets.size(); ++i) {
    sets[i].permitted &= static_cast<std::uint32_t>(mask >> (32 * i));
    sets[i].effective = sets[i].permitted;
    sets[i].inheritable = 0;
  }
  if (::syscall(SYS_capset, &header, sets.data()) != 0) return base::Error::from_errno(errno, "dropping capabilities");
  return {};
}

}  // namespace

}  // namespace oci::fetch
