#include "driver/host/process_tree.h"

#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <set>

#include "base/file.h"

namespace driver {

namespace {
using base::str;

constexpr std::size_t kStatBytesMax = 4096;
constexpr std::size_t kCgroupBytesMax = 64u << 10;
/// A family that forks while it is killed needs a second look.
constexpr std::chrono::milliseconds kLookAgain{2};

/// Of the terminals below /dev/pts (Documentation/admin-guide/devices.txt).
constexpr unsigned kPtsMajorFirst = 136;
constexpr unsigned kPtsMajorLast = 143;

enum class Streams { kPipes, kAll };
std::vector<StreamId> streams_of(const base::ProcessId& process, Streams wanted);
std::optional<StreamId> stream_at(const std::string& path, Streams wanted);
std::vector<base::ProcessId> victims(const Family& family, const std::vector<StreamId>& streams);
bool in_family_cgroup(const base::ProcessId& id, const Family& family);
bool holds_any(const base::ProcessId& id, const std::vector<StreamId>& streams);
std::vector<Kin> all_processes();
std::vector<std::string> names_in(const std::string& directory);
template <typename Number>
bool next_number(std::string_view& text, Number& number);
}  // namespace

std::vector<StreamId> pipes_of(const base::ProcessId& process) {
  return streams_of(process, Streams::kPipes);
}

base::Status kill_family(const base::Context& ctx, const Family& family) {
  if (family.root.pid <= 1)
    return base::Error::invalid_argument(str("pid ", family.root.pid, " cannot be that of a command"));
  // A terminal's inode is another's soon after its end: it counts only if the root has it now.
  std::vector<StreamId> streams = streams_of(family.root, Streams::kAll);
  streams.insert(streams.end(), family.pipes.begin(), family.pipes.end());
  while (true) {
    const auto found = victims(family, streams);
    if (found.empty()) return {};
    for (const base::ProcessId& id : found) {
      const auto pidfd = base::open_pidfd(id);
      if (!pidfd) continue;  // it ended meanwhile
      [[maybe_unused]] const auto sent = base::send_signal(pidfd->get(), SIGKILL);
    }
    auto waited = ctx.sleep(kLookAgain);
    if (!waited) return std::move(waited).error().wrap(str(found.size(), " processes survive SIGKILL"));
  }
}

std::vector<base::ProcessId> family_of(const base::ProcessId& root, const std::vector<Kin>& all) {
  const auto recycled = [&](const Kin& kin) {
    return kin.id.pid == root.pid && kin.id.start_ticks != root.start_ticks;
  };
  if (root.start_ticks != 0 && std::any_of(all.begin(), all.end(), recycled)) return {};
  std::set<pid_t> members{root.pid};
  // Parents may come after their children: until a pass finds nobody new, at most as often as the tree is deep.
  for (std::size_t before = 0; before != members.size();) {
    before = members.size();
    for (const Kin& kin : all) {
      if (kin.session == root.pid || members.contains(kin.parent)) members.insert(kin.id.pid);
    }
  }
  std::vector<base::ProcessId> living;
  for (const Kin& kin : all) {
    if (!kin.dead && members.contains(kin.id.pid)) living.push_back(kin.id);
  }
  return living;
}

// "123 (a name) S 1 123 123 …": the name ends at the last ')'. Fields 3, 4, 6 and 22 of proc(5).
std::optional<Kin> parse_kin(std::string_view stat) {
  Kin kin;
  if (!next_number(stat, kin.id.pid)) return std::nullopt;
  const std::size_t name_end = stat.rfind(") ");
  if (name_end == std::string_view::npos || name_end + 3 > stat.size()) return std::nullopt;
  const char state = stat[name_end + 2];
  std::string_view rest = stat.substr(name_end + 3);
  pid_t group = 0;
  if (!next_number(rest, kin.parent) || !next_number(rest, group) || !next_number(rest, kin.session)) {
    return std::nullopt;
  }
  constexpr int kSessionField = 6;
  constexpr int kStartField = 22;
  for (int field = kSessionField + 1; field < kStartField; ++field) {
    std::int64_t skipped = 0;
    if (!next_number(rest, skipped)) return std::nullopt;
  }
  if (!next_number(rest, kin.id.start_ticks)) return std::nullopt;
  kin.dead = state == 'Z' || state == 'X';
  return kin;
}

bool in_cgroup(std::string_view text, std::string_view cgroup_path) {
  if (cgroup_path.size() < 2 || cgroup_path.front() != '/') return false;  // "/" would be everybody
  const std::string wanted = str(":", cgroup_path);
  for (std::size_t at = text.find(wanted); at != std::string_view::npos; at = text.find(wanted, at + 1)) {
    const std::string_view after = text.substr(at + wanted.size());
    if (after.empty() || after.front() == '\n' || after.front() == '/') return true;
  }
  return false;
}

namespace {

std::vector<StreamId> streams_of(const base::ProcessId& process, Streams wanted) {
  std::vector<StreamId> streams;
  const std::string dir = str("/proc/", process.pid, "/fd/");
  for (const int fd : {0, 1, 2}) {
    if (const auto stream = stream_at(str(dir, fd), wanted)) streams.push_back(*stream);
  }
  // Looked at twice, so that what was seen between is not a stranger's with the same pid.
  const auto now = base::identify(process.pid);
  if (!now || (process.start_ticks != 0 && now->start_ticks != process.start_ticks)) return {};
  return streams;
}

std::optional<StreamId> stream_at(const std::string& path, Streams wanted) {
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) return std::nullopt;
  const bool terminal =
      S_ISCHR(st.st_mode) && major(st.st_rdev) >= kPtsMajorFirst && major(st.st_rdev) <= kPtsMajorLast;
  if (!S_ISFIFO(st.st_mode) && !(terminal && wanted == Streams::kAll)) return std::nullopt;
  return StreamId{st.st_dev, st.st_ino};
}

std::vector<base::ProcessId> victims(const Family& family, const std::vector<StreamId>& streams) {
  const auto all = all_processes();
  auto found = family_of(family.root, all);
  std::erase_if(found, [&](const base::ProcessId& id) { return !in_family_cgroup(id, family); });
  if (streams.empty()) return found;
  for (const Kin& kin : all) {
    if (kin.dead || kin.id.pid == family.init.pid || kin.id.start_ticks < family.root.start_ticks) continue;
    if (in_family_cgroup(kin.id, family) && holds_any(kin.id, streams)) found.push_back(kin.id);
  }
  return found;
}

bool in_family_cgroup(const base::ProcessId& id, const Family& family) {
  const auto text = base::read_file(str("/proc/", id.pid, "/cgroup"), kCgroupBytesMax);
  return text && in_cgroup(*text, family.cgroup_path);
}

bool holds_any(const base::ProcessId& id, const std::vector<StreamId>& streams) {
  const std::string dir = str("/proc/", id.pid, "/fd");
  const auto names = names_in(dir);
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    const auto stream = stream_at(str(dir, "/", name), Streams::kAll);
    return stream && std::count(streams.begin(), streams.end(), *stream) > 0;
  });
}

std::vector<Kin> all_processes() {
  std::vector<Kin> all;
  for (const std::string& name : names_in("/proc")) {
    const auto stat = base::read_file(str("/proc/", name, "/stat"), kStatBytesMax);
    if (!stat) continue;  // it ended meanwhile
    if (const auto kin = parse_kin(*stat)) all.push_back(*kin);
  }
  return all;
}

/// The entries of a folder of /proc that are numbers: processes, descriptors.
std::vector<std::string> names_in(const std::string& directory) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(directory.c_str()), ::closedir);
  if (!dir) return names;
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string_view name = entry->d_name;
    if (name.find_first_not_of("0123456789") == std::string_view::npos) names.emplace_back(name);
  }
  return names;
}

/// Takes a number, and the spaces before it, from the front of `text`.
template <typename Number>
bool next_number(std::string_view& text, Number& number) {
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return true;
}

}  // namespace

}  // namespace driver
