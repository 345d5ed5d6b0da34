// "user[:group]" of a job or an image to numbers, by the passwd and group files inside the image. All three are
// hostile. spec: image-spec config.md "User"
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace driver {

struct ResolvedUser {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  /// Always set explicitly, even for one group: an absent list would leave the runtime's own groups in place. The
  /// primary group stands first.
  std::vector<std::uint32_t> additional_gids;
};

constexpr std::size_t kUserTextBytesMax = 256;
constexpr std::size_t kPasswdBytesMax = 10u << 20;  ///< of either file
constexpr std::size_t kGroupsMax = 65536;           ///< NGROUPS_MAX of Linux

/// Looks `user` up in the root file system below `rootfs_fd`.
///   forms   "" (root), uid, name, uid:gid, name:group, uid:group, name:gid. Digits are always a number, never a name,
///           in 0 … 2^31-1. A number that passwd does not know has gid 0. With a group given, no others are added.
///   errors  kInvalidArgument naming `user`: malformed, out of range, no such user or group, a matching line without a
///           number, a passwd file that is not a regular file or has more than kPasswdBytesMax
///   blocks  on local files only; links are resolved inside the root; FIFOs and devices are never opened for reading
base::Result<ResolvedUser> resolve_user(int rootfs_fd, const std::string& user);

/// The numbers of `group_add`: names are looked up in /etc/group below `rootfs_fd`, digits are always a number.
///   errors  kInvalidArgument naming the group, as resolve_user
base::Result<std::vector<std::uint32_t>> resolve_groups(int rootfs_fd, const std::vector<std::string>& groups);
base::Result<std::vector<std::uint32_t>> resolve_groups_in(const std::vector<std::string>& groups,
                                                           std::string_view group_file);

/// Names by numbers, for people; the first of several counts.
struct AccountNames {
  std::map<std::uint32_t, std::string> users;
  std::map<std::uint32_t, std::string> groups;
};
/// Those of the root file system below `rootfs_fd`. A file that cannot be read, and a line without a number, name
/// nobody.
///   blocks  as resolve_user
AccountNames account_names(int rootfs_fd);

/// The pure part: contents of the two files ("" = the file is missing).
base::Result<ResolvedUser> resolve_user_in(const std::string& user, std::string_view passwd, std::string_view group);

}  // namespace driver
