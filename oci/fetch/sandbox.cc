#include "oci/fetch/sandbox.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

namespace oci::fetch {

base::Status enter_sandbox() {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return base::Error::from_errno(errno, "no_new_privs");
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return base::Error::from_errno(errno, "dumpable");
  const struct rlimit none { 0, 0 };
  if (::setrlimit(RLIMIT_CORE, &none) != 0) return base::Error::from_errno(errno, "RLIMIT_CORE");
  // The one who started us has asked for this already; a person who runs us by hand has not.
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) return base::Error::from_errno(errno, "pdeathsig");
  ::umask(0);
  return {};
}

}  // namespace oci::fetch
