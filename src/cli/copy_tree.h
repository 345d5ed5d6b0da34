// Copies files and folders between two roots that do not trust each other: a container may rename and replace what is
// being copied at any moment, and may not lead the copy out of either side.
//
// rule     Every name is opened beneath the descriptor of its folder, and no link is followed there: links are copied
// as
//          links.
// threads  any
#pragma once

#include <functional>
#include <string>

#include "base/context.h"
#include "base/fd.h"
#include "base/result.h"

namespace cli {

struct CopyOptions {
  bool keep_owner = false;  ///< else what is made belongs to us
  /// Of what cannot be copied: sockets, device files.
  std::function<void(const std::string& what)> on_skipped;
};

/// Copies `name` of the folder `from` to `to_name` of the folder `to`, with all that is below. Modes and times are
/// kept, holes stay holes. A folder that is there is filled; a file that is there is replaced by a file.
///   in      folders: descriptors of both; `from` can be read
///   blocks  while content is copied, until ctx ends
///   errors  kInvalidArgument a folder onto a file, a file onto a folder, more than 1,000 folders deep · by errno
base::Status copy_tree(const base::Context& ctx, int from, const std::string& name, int to, const std::string& to_name,
                       const CopyOptions& options);

/// Copies what is in the folder `from` to the folder `to`.
base::Status copy_content(const base::Context& ctx, int from, int to, const CopyOptions& options);

/// Copies the content of a file to an open one, whose content it becomes.
base::Status copy_file_content(const base::Context& ctx, int from, int to);

}  // namespace cli
