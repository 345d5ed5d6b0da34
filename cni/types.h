// Network configuration lists: what a file in /etc/cni/net.d says, and what of it each plugin is given. Pure.
//
// spec  CNI SPEC.md "Section 1: Network configuration format", of 0.3.1, 0.4.0, 1.0.0 and 1.1.0
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace cni {

inline constexpr std::size_t kListBytesMax = 256u << 10;  ///< of a configuration list
inline constexpr std::size_t kPluginsMax = 32;            ///< in a list
inline constexpr std::size_t kNameBytesMax = 128;         ///< of a network, a container: file names are made of both
inline constexpr std::size_t kIfnameBytesMax = 15;        ///< IFNAMSIZ - 1

/// A version of the specification.
struct Version {
  int major = 0;
  int minor = 0;
  int patch = 0;
  auto operator<=>(const Version&) const = default;
  std::string text() const;
};
inline constexpr Version kOldest{0, 3, 0};
inline constexpr Version kCheckSince{0, 4, 0};  ///< CHECK, and prevResult for DEL
inline constexpr Version kNoFamilySince{1, 0, 0};
inline constexpr Version kGcSince{1, 1, 0};  ///< GC and STATUS
inline constexpr Version kNewest{1, 1, 0};

///   errors  kInvalidArgument: not three numbers, or a version that is not spoken here; `what` is the subject
base::Result<Version> parse_version(std::string_view text, std::string_view what);

/// One plugin of a list.
struct PluginConf {
  std::string type;                    ///< the name of its program
  std::set<std::string> capabilities;  ///< those that it declares with `true`
  std::string json;                    ///< its whole object
};

struct NetworkList {
  std::string name;
  Version version;
  bool disable_check = false;
  bool disable_gc = false;
  bool load_only_inlined = false;
  std::vector<PluginConf> plugins;
  std::string text;  ///< as it was read: for the cache, and for the DEL to come
};

/// Parses a list, or the configuration of a single plugin, which becomes a list of one. Of `cniVersion` and
/// `cniVersions` the highest that is spoken here counts.
///   errors  kInvalidArgument `what` is not JSON, has no name, no plugins, a type with a path in it … ·
///           kResourceExhausted larger than kListBytesMax
base::Result<NetworkList> parse_list(std::string_view text, std::string_view what);

/// Names of networks and containers: letters, digits, "_", "." and "-", the first a letter or digit.
bool is_name(std::string_view text);
/// A name of an interface as the kernel takes it.
bool is_ifname(std::string_view text);
/// A file name without a path: what `type` may be.
bool is_plugin_type(std::string_view text);

}  // namespace cni
