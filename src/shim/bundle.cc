#include "shim/bundle.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/json.h"

namespace shim {

namespace {

bool valid_container_id(std::string_view id);
std::string read_tail(const std::string& path);
std::vector<std::string_view> lines_of(std::string_view text);
std::string last_runtime_error(const ShimNames& names);
std::string last_shim_lines(const ShimNames& names);

}  // namespace

base::Status check_names(const ShimNames& names) {
  if (!valid_container_id(names.container_id)) {
    return base::Error::invalid_argument(base::str("container id \"", names.container_id,
                                                   "\" must be letters and digits, joined by single . _ or -, at most ",
                                                   kContainerIdBytesMax, " bytes"));
  }
  // `<shim> delete` takes the id from the directory's name, whatever it is told.
  const std::filesystem::path bundle(names.bundle_dir);
  if (!bundle.is_absolute() || bundle.filename() != names.container_id) {
    return base::Error::invalid_argument(
        base::str("bundle ", names.bundle_dir, " must be an absolute path that ends in ", names.container_id));
  }
  if (!names.socket_path.starts_with('/') || names.socket_path.size() > kSocketPathBytesMax) {
    return base::Error::invalid_argument(base::str("shim socket ", names.socket_path,
                                                   " must be an absolute path of at most ", kSocketPathBytesMax,
                                                   " bytes: choose a shorter state_dir"));
  }
  return {};
}

base::Status prepare_bundle(const ShimNames& names) {
  TRY_VOID(check_names(names));
  TRY_VOID(base::make_dirs(names.bundle_dir, 0711));
  TRY_VOID(base::make_dirs(names.bundle_dir + "/rootfs", 0711));
  TRY(const base::Fd log, base::open_file(names.bundle_dir + "/log", O_WRONLY | O_CREAT | O_NOFOLLOW, 0600));
  const std::string address = base::str("unix://", names.socket_path);
  return base::write_file_atomic(names.bundle_dir + "/address", address, 0600, base::Durable::kNo);
}

base::Status write_bundle(const ShimNames& names, const std::string& config_json) {
  if (config_json.size() > kConfigBytesMax) {
    return base::Error::invalid_argument(base::str("the container's configuration has ", config_json.size(),
                                                   " bytes, the limit is ", kConfigBytesMax,
                                                   ": shorten the environment, the arguments or the list of mounts"));
  }
  TRY_VOID(prepare_bundle(names));
  // 0600: the environment of the task is in it.
  return base::write_file_atomic(names.bundle_dir + "/config.json", config_json, 0600, base::Durable::kNo);
}

std::string bundle_log_tail(const ShimNames& names) {
  const std::string runtime = last_runtime_error(names);
  const std::string shim = last_shim_lines(names);
  std::string text = base::str(runtime, runtime.empty() || shim.empty() ? "" : " | ", shim);
  if (text.size() > kBundleLogTailBytesMax) text.erase(0, text.size() - kBundleLogTailBytesMax);
  return text;
}

base::Status remove_bundle(const ShimNames& names) {
  TRY_VOID(check_names(names));
  const std::string rootfs = names.bundle_dir + "/rootfs";
  TRY(const bool mounted, base::is_mount_point(rootfs));
  if (mounted) {
    return base::Error::failed_precondition(base::str(rootfs, " is still mounted: unmount it first"));
  }
  return base::remove_tree(names.bundle_dir);
}

namespace {

bool valid_container_id(std::string_view id) {
  if (id.empty() || id.size() > kContainerIdBytesMax) return false;
  bool after_word = false;
  for (const char c : id) {
    const bool word = std::isalnum(static_cast<unsigned char>(c)) != 0;
    if (!word && (!after_word || (c != '.' && c != '_' && c != '-'))) return false;
    after_word = word;
  }
  return after_word;
}

// The last kBundleLogTailBytesMax of a file that may be long.
std::string read_tail(const std::string& path) {
  const auto fd = base::open_file(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  struct stat st {};
  if (!fd || ::fstat(fd->get(), &st) != 0 || !S_ISREG(st.st_mode)) return "";
  const off_t size = std::min<off_t>(st.st_size, kBundleLogTailBytesMax);
  std::string text(static_cast<std::size_t>(size), '\0');
  const ssize_t n = ::pread(fd->get(), text.data(), text.size(), st.st_size - size);
  text.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  return text;
}

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    if (end > 0) lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

std::string last_runtime_error(const ShimNames& names) {
  const std::string text = read_tail(names.bundle_dir + "/log.json");
  const auto lines = lines_of(text);
  for (auto line = lines.rbegin(); line != lines.rend(); ++line) {
    const auto entry = base::parse_json(*line, "log.json");
    if (!entry || !entry->is_object()) continue;
    const auto level = base::get_string(*entry, "level");
    const auto message = base::get_string(*entry, "msg");
    if (level && *level == "error" && message && *message) return **message;
  }
  return "";
}

std::string last_shim_lines(const ShimNames& names) {
  constexpr std::size_t kLinesMax = 3;
  const std::string text = read_tail(names.bundle_dir + "/log");
  const auto lines = lines_of(text);
  std::string out;
  for (std::size_t i = lines.size() - std::min(lines.size(), kLinesMax); i < lines.size(); ++i) {
    out += base::str(out.empty() ? "" : " | ", lines[i]);
  }
  return out;
}

}  // namespace

}  // namespace shim
