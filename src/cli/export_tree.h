// Writes what is below a folder as a tar, while a container may rename and replace it at any moment.
//
// rule     Every name is opened beneath the descriptor of its folder, and no link is followed.
// threads  any
#pragma once

#include <functional>
#include <string>

#include "base/context.h"
#include "base/fd.h"
#include "base/result.h"

namespace cli {

struct ExportOptions {
  /// Of what a tar cannot have: sockets.
  std::function<void(const std::string& path)> on_skipped;
};

/// Writes everything below `root` to `out`, with owners, modes, times, links, devices and the attributes that belong to
/// files (security.capability, user.*). A file that grows or shrinks meanwhile has the length that it had at its start.
///   in      root: readable; other file systems that are mounted below it are gone into
///   blocks  for whoever takes the tar, until ctx ends
///   errors  by errno: then the tar is not whole · kInvalidArgument more than 500 folders deep
base::Status export_tree(const base::Context& ctx, const base::Fd& root, int out, const ExportOptions& options);

}  // namespace cli
