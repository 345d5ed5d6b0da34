#include "driver/files/user.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <functional>
#include <optional>

#include "base/file.h"
#include "base/text.h"

namespace driver {

using base::Error;
using base::Result;
using base::str;

namespace {

constexpr std::uint32_t kIdMax = 0x7fffffff;
constexpr std::string_view kDigits = "0123456789";

/// One side of "user:group".
struct Name {
  std::string_view text;
  std::optional<std::uint32_t> number;
};
struct Parsed {
  Name user;
  std::optional<Name> group;
};
struct PasswdEntry {
  std::string_view name;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
};

Error refuse(const std::string& user, std::string_view why);
Error refuse(const std::string& user, Error why);
Result<Parsed> parse(const std::string& user);
Result<Name> parse_name(const std::string& user, std::string_view text, std::string_view what);
Result<std::optional<PasswdEntry>> find_user(const std::string& user, const Name& wanted, std::string_view passwd);
Result<std::uint32_t> find_group(const std::string& user, const Name& wanted, std::string_view group);
Result<std::vector<std::uint32_t>> groups_of(const std::string& user, std::string_view name, std::uint32_t primary,
                                             std::string_view group);
std::array<std::string_view, 4> fields_of(std::string_view line);
bool next_line(std::string_view& rest, std::string_view& line);
Result<std::uint32_t> id_of(const std::string& user, std::string_view text, std::string_view file);
Result<std::string> read_etc_file(int rootfs_fd, const std::string& user, const std::string& path);

}  // namespace

Result<ResolvedUser> resolve_user(int rootfs_fd, const std::string& user) {
  TRY(const Parsed parsed, parse(user));
  std::string passwd;
  std::string group;
  // Two numbers need no file, so that an image with a broken one can still run.
  if (!(parsed.user.number && parsed.group && parsed.group->number)) {
    TRY(passwd, read_etc_file(rootfs_fd, user, "etc/passwd"));
    TRY(group, read_etc_file(rootfs_fd, user, "etc/group"));
  }
  return resolve_user_in(user, passwd, group);
}

Result<ResolvedUser> resolve_user_in(const std::string& user, std::string_view passwd, std::string_view group) {
  TRY(const Parsed parsed, parse(user));
  ResolvedUser resolved;
  if (parsed.group) {
    TRY(resolved.gid, find_group(user, *parsed.group, group));
    resolved.additional_gids = {resolved.gid};
    if (parsed.user.number) {
      resolved.uid = *parsed.user.number;
      return resolved;
    }
  }
  TRY(const auto entry, find_user(user, parsed.user, passwd));
  if (!entry && !parsed.user.number) {
    return refuse(user, str("there is no user \"", parsed.user.text,
                            "\" in the image's /etc/passwd: use one of its "
                            "users, or a number"));
  }
  resolved.uid = entry ? entry->uid : *parsed.user.number;
  if (parsed.group) return resolved;
  resolved.gid = entry ? entry->gid : 0;
  const std::string_view name = entry ? entry->name : std::string_view();
  TRY(resolved.additional_gids, groups_of(user, name, resolved.gid, group));
  return resolved;
}

Result<std::vector<std::uint32_t>> resolve_groups(int rootfs_fd, const std::vector<std::string>& groups) {
  if (groups.empty()) return std::vector<std::uint32_t>();
  TRY(const std::string file, read_etc_file(rootfs_fd, groups.front(), "etc/group"));
  return resolve_groups_in(groups, file);
}

Result<std::vector<std::uint32_t>> resolve_groups_in(const std::vector<std::string>& groups,
                                                     std::string_view group_file) {
  std::vector<std::uint32_t> gids;
  for (const std::string& wanted : groups) {
    auto name = parse_name(wanted, wanted, "group");
    auto gid = name ? find_group(wanted, *name, group_file) : Result<std::uint32_t>(std::move(name).error());
    if (!gid) return std::move(gid).error().wrap("group_add");
    gids.push_back(*gid);
  }
  return gids;
}

AccountNames account_names(int rootfs_fd) {
  const auto read = [&](const char* path) {
    std::map<std::uint32_t, std::string> names;
    const auto text = read_etc_file(rootfs_fd, "", path);
    std::string_view rest = text ? std::string_view(*text) : std::string_view();
    for (std::string_view line; next_line(rest, line);) {
      const auto [name, password, number, others] = fields_of(line);
      const auto id = id_of("", number, path);
      if (id && !name.empty()) names.emplace(*id, name);
    }
    return names;
  };
  return {read("etc/passwd"), read("etc/group")};
}

namespace {

Error refuse(const std::string& user, std::string_view why) {
  return refuse(user, Error::invalid_argument(str(why)));
}

Error refuse(const std::string& user, Error why) {
  return std::move(why)
      .recode(base::Code::kInvalidArgument)
      .wrap(str("user \"", user.substr(0, kUserTextBytesMax), "\""));
}

Result<Parsed> parse(const std::string& user) {
  if (user.size() > kUserTextBytesMax) {
    return refuse(user, str("has ", user.size(), " bytes, the limit is ", kUserTextBytesMax));
  }
  if (base::has_control_or_blank(user)) return refuse(user, "contains white space or a control character");
  Parsed parsed;
  const std::size_t colon = user.find(':');
  const std::string_view text = user;
  // A part that is empty was not said: root, and the groups that the user has.
  parsed.user = {"root", 0};
  if (colon != 0 && !user.empty()) {
    TRY(parsed.user, parse_name(user, text.substr(0, colon), "user"));
  }
  if (colon == std::string::npos || colon + 1 == user.size()) return parsed;
  if (user.find(':', colon + 1) != std::string::npos) return refuse(user, "has more than one ':': write user:group");
  TRY(parsed.group, parse_name(user, text.substr(colon + 1), "group"));
  return parsed;
}

// What looks like a number is one, and never a name that some passwd file maps to root (CVE-2016-3697); out of range it
// is an error, never cut (CVE-2024-40635).
Result<Name> parse_name(const std::string& user, std::string_view text, std::string_view what) {
  if (text.empty()) return refuse(user, str("the ", what, " is empty: write user or user:group"));
  const std::string_view digits = text.front() == '-' || text.front() == '+' ? text.substr(1) : text;
  if (digits.empty() || digits.find_first_not_of(kDigits) != std::string_view::npos) return Name{text, std::nullopt};
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value > kIdMax) {
    return refuse(user, str("the ", what, " number must be from 0 to ", kIdMax));
  }
  return Name{text, value};
}

Result<std::optional<PasswdEntry>> find_user(const std::string& user, const Name& wanted, std::string_view passwd) {
  for (std::string_view line; next_line(passwd, line);) {
    const auto [name, password, uid, gid] = fields_of(line);
    if (name.empty()) continue;
    if (wanted.number) {
      std::uint32_t value = 0;
      const auto [end, error] = std::from_chars(uid.data(), uid.data() + uid.size(), value);
      if (error != std::errc() || end != uid.data() + uid.size() || value != *wanted.number) continue;
    } else if (name != wanted.text) {
      continue;
    }
    PasswdEntry entry{name, 0, 0};
    TRY(entry.uid, id_of(user, uid, "/etc/passwd"));
    TRY(entry.gid, id_of(user, gid, "/etc/passwd"));
    return std::optional(entry);
  }
  return std::optional<PasswdEntry>();
}

Result<std::uint32_t> find_group(const std::string& user, const Name& wanted, std::string_view group) {
  if (wanted.number) return *wanted.number;
  for (std::string_view line; next_line(group, line);) {
    const auto [name, password, gid, members] = fields_of(line);
    if (name == wanted.text) return id_of(user, gid, "/etc/group");
  }
  return refuse(user, str("there is no group \"", wanted.text,
                          "\" in the image's /etc/group: use one of its groups, or "
                          "a number"));
}

// The primary group, then every group that lists `name`. A group of the user's own name is the primary one of most
// distributions, wherever it says otherwise passwd wins.
Result<std::vector<std::uint32_t>> groups_of(const std::string& user, std::string_view name, std::uint32_t primary,
                                             std::string_view group) {
  std::vector<std::uint32_t> gids = {primary};
  for (std::string_view line; !name.empty() && next_line(group, line);) {
    const auto [group_name, password, gid, members] = fields_of(line);
    if (group_name.empty() || group_name == name) continue;
    bool listed = false;
    for (std::string_view rest = members; !rest.empty() && !listed;) {
      const std::size_t comma = std::min(rest.find(','), rest.size());
      listed = rest.substr(0, comma) == name;
      rest.remove_prefix(std::min(comma + 1, rest.size()));
    }
    if (!listed) continue;
    TRY(const std::uint32_t value, id_of(user, gid, "/etc/group"));
    if (std::find(gids.begin(), gids.end(), value) == gids.end()) gids.push_back(value);
    if (gids.size() > kGroupsMax) return refuse(user, str("is in more than ", kGroupsMax, " groups"));
  }
  return gids;
}

// The first four fields of "a:b:c:d:…"; those that are missing are empty.
std::array<std::string_view, 4> fields_of(std::string_view line) {
  std::array<std::string_view, 4> fields;
  for (std::string_view& field : fields) {
    const std::size_t colon = std::min(line.find(':'), line.size());
    field = line.substr(0, colon);
    line.remove_prefix(std::min(colon + 1, line.size()));
  }
  return fields;
}

// Skips comments; the "+" and "-" lines of NIS mean nothing here.
bool next_line(std::string_view& rest, std::string_view& line) {
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.empty() && line.front() != '#' && line.front() != '+' && line.front() != '-') return true;
  }
  return false;
}

// A number that cannot be read must not become 0, which is root.
Result<std::uint32_t> id_of(const std::string& user, std::string_view text, std::string_view file) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value > kIdMax) {
    return refuse(user, str("the image's ", file, " has \"", text.substr(0, 32), "\" where a number from 0 to ", kIdMax,
                            " is expected"));
  }
  return value;
}

// Missing files count as empty. O_NONBLOCK: a FIFO must not hold us up before it is refused.
Result<std::string> read_etc_file(int rootfs_fd, const std::string& user, const std::string& path) {
  auto file = base::open_in_root(rootfs_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  if (!file) {
    const int err = file.error().sys_errno;
    if (err == ENOENT || err == ENOTDIR) return std::string();
    return refuse(user, std::move(file).error().wrap(str("cannot read /", path, " of the image")));
  }
  struct stat info = {};
  if (::fstat(file->get(), &info) != 0) return Error::from_errno(errno, str("/", path, " of the image"));
  if (!S_ISREG(info.st_mode)) return refuse(user, str("/", path, " of the image is not a regular file"));
  auto text = base::read_to_end(base::Context::background(), file->get(), kPasswdBytesMax, path);
  if (!text) return refuse(user, std::move(text).error().wrap(str("/", path, " of the image")));
  return text;
}

}  // namespace
}  // namespace driver
