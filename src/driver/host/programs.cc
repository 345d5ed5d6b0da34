#include "driver/host/programs.h"

#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>

#include "shim/shim.h"
#include "version.h"

namespace driver {

namespace {
using base::Result;
using base::str;

// Debian, Docker's packages and hand-made installs between them; the agent's PATH is not ours to trust.
constexpr std::array<std::string_view, 7> kProgramFolders = {
    "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/libexec/containerd"};

bool executable(const std::string& path) {
  struct stat st {};
  return ::stat(path.c_str(), &st) == 0 && S_ISREG(st.st_mode) && ::access(path.c_str(), X_OK) == 0;
}

/// A program of ours: as configured, else beside the running binary, else where it is installed.
Result<std::string> find_own(const std::string& name, const std::string& configured, const std::string& option) {
  if (!configured.empty()) return find_program(configured, option);
  std::error_code ec;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", ec);
  std::string beside = (self.parent_path() / name).string();
  if (executable(beside)) return beside;
  std::string installed = str(base::kLibexecDir, "/", name);
  if (executable(installed)) return installed;
  return base::Error::not_found(str(name, " was found neither at ", beside, " nor at ", installed,
                                    ": install it, or set the plugin option \"", option, "\""));
}
}  // namespace

Result<std::string> find_program(const std::string& name, const std::string& option) {
  if (name.starts_with("/")) {
    if (executable(name)) return name;
    return base::Error::not_found(
        str(name, " is not an executable file: install it or correct the plugin option \"", option, "\""));
  }
  for (const std::string_view folder : kProgramFolders) {
    std::string path = str(folder, "/", name);
    if (executable(path)) return path;
  }
  return base::Error::not_found(
      str(name, " was not found: install it, or set the plugin option \"", option, "\" to its path"));
}

Result<std::string> find_image_helper(const std::string& configured) {
  return find_own("containerd-driver-image", configured, "image_helper");
}

Result<std::string> find_init(const std::string& configured) {
  return find_own("containerd-driver-init", configured, "init_path");
}

Result<std::string> probe_shim_version(const base::Context& ctx, const std::string& shim) {
  return shim::probe_version(ctx, shim);
}

Result<std::string> writable_by_others(const std::string& path) {
  namespace fs = std::filesystem;
  for (fs::path at = path;; at = at.parent_path()) {
    struct stat info {};
    if (::lstat(at.c_str(), &info) != 0) return base::Error::from_errno(errno, at.string());
    const bool ours = info.st_uid == 0 || info.st_uid == ::geteuid();
    const bool group_writes = (info.st_mode & S_IWGRP) != 0 && info.st_gid != 0;
    const bool others_write = (info.st_mode & S_IWOTH) != 0;
    const bool sticky = S_ISDIR(info.st_mode) && (info.st_mode & S_ISVTX) != 0 && at != path;
    if (!ours || ((group_writes || others_write) && !sticky)) return at.string();
    if (at == at.parent_path()) return std::string();
  }
}

}  // namespace driver
