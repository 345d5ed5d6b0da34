// The networks of a node: the files of its configuration folders.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "cni/types.h"

namespace cni {

inline constexpr std::size_t kFilesMax = 1000;  ///< of all folders together

struct NetworkFile {
  std::string path;
  base::Result<NetworkList> list;  ///< or why it cannot be used, in a sentence that names the file
};

/// Every file of the folders that names a network (*.conflist, *.conf, *.json), in the order of the folders, in each by
/// name. A broken file is among them, and does not stop the rest. Unless the list forbids it, the plugins of the files
/// in a folder of its name beside it are added to it.
///   errors  by errno: a folder cannot be listed. Missing: it has none · kResourceExhausted more than kFilesMax
base::Result<std::vector<NetworkFile>> networks_in(const std::vector<std::string>& dirs);

/// The network of that name; if several files have it, the first .conflist, else the first.
///   errors  kInvalidArgument no name of a network · kNotFound with the folders, and the files that cannot be used
base::Result<NetworkList> find_network(const std::vector<std::string>& dirs, const std::string& name);

}  // namespace cni
