// Locks between processes by name: one file for all names, a byte of it for each, so that no lock file is left over.
#pragma once

#include <string>
#include <string_view>

#include "base/context.h"
#include "base/fd.h"
#include "base/result.h"

namespace cni {

enum class Share { kShared, kExclusive };

/// Locks `name` in the file at `path`, which is made (0600) if it is missing, together with its folder. The lock lasts
/// until every copy of the descriptor is closed: a child that inherits it keeps it. Two names may share a byte; then
/// they wait for each other.
///   blocks  until it is free, or ctx ends
///   errors  kDeadlineExceeded, kCancelled · by errno
base::Result<base::Fd> lock_name(const base::Context& ctx, const std::string& path, std::string_view name, Share share);

}  // namespace cni
