// Network namespaces with a name: a file that the namespace is mounted on, so that it lives without any process.
#pragma once

#include <string>

#include "base/result.h"

namespace cni {

/// Makes a namespace with its loopback interface up, and mounts it on `path`, whose folder is made (0755). Addresses of
/// IPv6 are usable in it at once: nobody else can have them (no duplicate address detection). What is left at `path`
/// from a crash is removed first; a namespace that is mounted there already is kept and used.
///   blocks  a few milliseconds; threads: any, as it works in one of its own
///   errors  by errno; then nothing is left
base::Status make_netns(const std::string& path);

/// Unmounts and removes it. Absent = OK. The namespace goes with the last process in it.
base::Status remove_netns(const std::string& path);

/// Whether the namespace at `path` has an interface of that name.
///   errors  by errno: it cannot be entered
base::Result<bool> has_interface(const std::string& path, const std::string& name);

/// Whether there is a network namespace at `path`; false also for a file of another kind, and if there is none.
///   errors  by errno: it could not be looked at, so that it may be one
base::Result<bool> is_netns(const std::string& path);

}  // namespace cni
