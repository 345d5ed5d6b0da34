#include "driver/net/groups.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>

#include "base/dir.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "cni/lock.h"
#include "cni/netns.h"
#include "cni/types.h"

namespace driver {

namespace {

using base::Code;
using base::Context;
using base::Error;
using base::Json;
using base::ProcessId;
using base::Result;
using base::Status;
using base::str;

constexpr std::size_t kClaimBytesMax = 64u << 10;
constexpr std::size_t kHostnameBytesMax = 64;  // of the kernel
constexpr std::string_view kEnding = ".json";

Status check_hostname(const std::string& hostname);
std::string folder_of(const GroupPlaces& places);
std::string claim_of(const GroupPlaces& places, const std::string& alloc_id);
std::string netns_of(const GroupPlaces& places, const std::string& alloc_id);
Result<base::Fd> lock(const Context& ctx, const GroupPlaces& places, const std::string& alloc_id);
Status remove_locked(const GroupPlaces& places, const std::string& alloc_id);
/// Whose a namespace is.
struct Claim {
  ProcessId agent;        ///< pid 0: not known
  std::string alloc_dir;  ///< "" = no task has been started yet
};
Result<Claim> read_claim(const std::string& path);
Status write_claim(const std::string& path, const Claim& claim);
bool is_given_up(const Claim& claim, const ProcessId& agent);
Result<bool> has_processes(const std::string& netns);

}  // namespace

Result<GroupNetwork> make_group_network(const Context& ctx, const GroupPlaces& places, const std::string& alloc_id,
                                        const std::string& hostname, const ProcessId& agent) {
  if (!cni::is_name(alloc_id)) {
    return Error::invalid_argument(
        str("\"", base::printable(alloc_id.substr(0, 64)), "\" cannot be the id of an allocation"));
  }
  TRY_VOID(check_hostname(hostname));
  TRY(const base::Fd held, lock(ctx, places, alloc_id));
  const std::string path = netns_of(places, alloc_id);
  TRY(const bool there, cni::is_netns(path));
  // Before the namespace: what is made is known to be ours, whatever dies in between.
  const std::string claim = claim_of(places, alloc_id);
  const auto earlier = read_claim(claim);
  TRY_VOID(write_claim(claim, {agent, earlier ? earlier->alloc_dir : ""}));
  auto made = cni::make_netns(path);
  if (made) return GroupNetwork{path, !there};
  [[maybe_unused]] const auto removed = remove_locked(places, alloc_id);
  return std::move(made).error().wrap("making the network of the group");
}

Status note_group_folder(const Context& ctx, const GroupPlaces& places, const std::string& alloc_id,
                         const std::string& alloc_dir) {
  if (!cni::is_name(alloc_id) || ::access(claim_of(places, alloc_id).c_str(), F_OK) != 0) return {};
  TRY(const base::Fd held, lock(ctx, places, alloc_id));
  TRY(const Claim claim, read_claim(claim_of(places, alloc_id)));
  if (claim.alloc_dir == alloc_dir) return {};
  return write_claim(claim_of(places, alloc_id), {claim.agent, alloc_dir});
}

Status remove_group_network(const Context& ctx, const GroupPlaces& places, const std::string& alloc_id) {
  if (!cni::is_name(alloc_id)) return {};  // nothing was made for it
  TRY(const base::Fd held, lock(ctx, places, alloc_id));
  return remove_locked(places, alloc_id);
}

void settle_group_networks(const Context& ctx, const GroupPlaces& places, const ProcessId& agent,
                           const std::function<bool(const std::string& alloc_id)>& is_wanted) {
  if (agent.pid == 0) return;
  const auto names = base::list_dir(folder_of(places));
  if (!names) {
    if (names.error().code != Code::kNotFound) {
      LOG_WARN("cannot look for networks of groups, will try again", {{"error", names.error().message}});
    }
    return;
  }
  for (const std::string& name : *names) {
    if (!name.ends_with(kEnding)) continue;
    const std::string alloc_id = name.substr(0, name.size() - kEnding.size());
    if (!cni::is_name(alloc_id)) continue;
    const auto held = lock(ctx, places, alloc_id);
    if (!held) continue;  // somebody works on it
    const auto claim = read_claim(claim_of(places, alloc_id));
    // What cannot be read, or looked into, is in use.
    if (!claim || !is_given_up(*claim, agent) || is_wanted(alloc_id)) continue;
    const auto used = has_processes(netns_of(places, alloc_id));
    if (!used || *used) continue;
    const auto removed = remove_locked(places, alloc_id);
    if (removed) {
      LOG_INFO("removed the network of a group that is gone", {{"allocation", alloc_id}});
    } else {
      LOG_WARN("cannot remove the network of a group, will try again",
               {{"allocation", alloc_id}, {"error", removed.error().message}});
    }
  }
}

namespace {

// As Nomad takes them in a group: labels of letters, digits and "-", which the kernel's own limit holds for, too.
Status check_hostname(const std::string& hostname) {
  const auto fits = [](char c) {
    return static_cast<unsigned char>(c) < 0x80 && (std::isalnum(c) != 0 || c == '-' || c == '.' || c == '_');
  };
  if (hostname.size() <= kHostnameBytesMax && std::all_of(hostname.begin(), hostname.end(), fits)) return {};
  return Error::invalid_argument(str("the host name of the group, \"",
                                     base::printable(hostname.substr(0, kHostnameBytesMax)),
                                     "\", cannot be one: use at most 64 letters, digits, \"-\" and \".\""));
}

std::string folder_of(const GroupPlaces& places) {
  return places.state_dir + "/groups";
}

std::string claim_of(const GroupPlaces& places, const std::string& alloc_id) {
  return str(folder_of(places), "/", alloc_id, kEnding);
}

std::string netns_of(const GroupPlaces& places, const std::string& alloc_id) {
  return str(places.netns_dir, "/", alloc_id);
}

Result<base::Fd> lock(const Context& ctx, const GroupPlaces& places, const std::string& alloc_id) {
  TRY_VOID(base::make_dirs(places.state_dir, 0711));
  return cni::lock_name(ctx, folder_of(places) + "/.lock", alloc_id, cni::Share::kExclusive);
}

// The claim goes last: without it nobody would look for the namespace.
Status remove_locked(const GroupPlaces& places, const std::string& alloc_id) {
  TRY_VOID(cni::remove_netns(netns_of(places, alloc_id)));
  const std::string path = claim_of(places, alloc_id);
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return {};
  return Error::from_errno(errno, str("removing ", path));
}

Result<Claim> read_claim(const std::string& path) {
  TRY(const std::string text, base::read_file(path, kClaimBytesMax));
  TRY(const Json object, base::parse_json(text, path));
  TRY(const auto pid, base::get_int(object, "pid"));
  TRY(const auto start_ticks, base::get_int(object, "start_ticks"));
  TRY(const auto alloc_dir, base::get_string(object, "alloc_dir"));
  if (!pid || !start_ticks) return Error::data_loss(path + " is damaged");
  return Claim{{static_cast<pid_t>(*pid), static_cast<std::uint64_t>(*start_ticks)}, alloc_dir.value_or("")};
}

Status write_claim(const std::string& path, const Claim& claim) {
  const Json object = {{"version", 1},
                       {"pid", claim.agent.pid},
                       {"start_ticks", claim.agent.start_ticks},
                       {"alloc_dir", claim.alloc_dir}};
  return base::write_file_atomic(path, base::dump_json(object), 0600, base::Durable::kNo);
}

bool is_given_up(const Claim& claim, const ProcessId& agent) {
  struct stat info {};
  if (!claim.alloc_dir.empty()) {
    return ::stat(claim.alloc_dir.c_str(), &info) != 0 && (errno == ENOENT || errno == ENOTDIR);
  }
  return claim.agent.pid != 0 && claim.agent != agent && base::has_ended(claim.agent);
}

Result<bool> has_processes(const std::string& netns) {
  struct stat wanted {};
  if (::stat(netns.c_str(), &wanted) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) return false;
    return Error::from_errno(errno, netns);
  }
  TRY(const auto entries, base::list_dir("/proc"));
  return std::any_of(entries.begin(), entries.end(), [&](const std::string& entry) {
    struct stat seen {};
    if (std::isdigit(static_cast<unsigned char>(entry.front())) == 0) return false;
    if (::stat(str("/proc/", entry, "/ns/net").c_str(), &seen) != 0) return false;
    return seen.st_dev == wanted.st_dev && seen.st_ino == wanted.st_ino;
  });
}

}  // namespace
}  // namespace driver
