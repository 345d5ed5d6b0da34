#include "driver/fingerprint.h"

#include <sys/stat.h>
#include <unistd.h>

#include <array>

#include "base/file.h"
#include "base/loop.h"
#include "driver/policy.h"
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

Fingerprint undetected(std::string why) {
  return {{}, Health::kUndetected, std::move(why)};
}

base::Status check_directory(const std::string& path, const char* option) {
  auto made = base::make_dirs(path, 0700);
  if (!made) return std::move(made).error().wrap(str(option, " cannot be used"));
  if (::access(path.c_str(), W_OK) != 0) {
    return base::Error::from_errno(errno, str(option, " ", path, " is not writable"));
  }
  return {};
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

Fingerprint HostProbe::look(const base::Context& ctx, const PluginOptions& options) {
  const std::lock_guard lock(mutex_);
  if (!options.enabled) return undetected("disabled by the plugin option \"enabled\"");
  if (::geteuid() != 0) return undetected("containers need root: run the Nomad client as root");
  auto shim = find_program(options.shim, "shim");
  if (!shim) return undetected(shim.error().message);
  auto version = shim_version(ctx, *shim);
  if (!version) return undetected(version.error().message);
  auto runtime = find_program(options.runtime_binary, "runtime_binary");
  if (!runtime) return undetected(runtime.error().message);
  auto helper = find_image_helper(options.image_helper);
  if (!helper) return undetected(helper.error().message);

  Fingerprint found;
  const std::string prefix = "driver.containerd-driver.";
  found.attributes["driver.containerd-driver"] = "true";
  found.attributes[prefix + "version"] = base::kVersion;
  found.attributes[prefix + "shim_version"] = *version;
  found.attributes[prefix + "runtime"] = std::filesystem::path(*runtime).filename();
  found.attributes[prefix + "privileged.enabled"] = policy_of(options).privileged ? "true" : "false";
  for (const auto& [path, option] :
       {std::pair{options.data_dir, "data_dir"}, std::pair{options.state_dir, "state_dir"}}) {
    const auto usable = check_directory(path, option);
    if (!usable) {
      found.health = Health::kUnhealthy;
      found.description = usable.error().message;
      return found;
    }
  }
  found.health = Health::kHealthy;
  found.description = "Healthy";
  return found;
}

Result<std::string> HostProbe::shim_version(const base::Context& ctx, const std::string& path) {
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) return base::Error::from_errno(errno, str("looking at ", path));
  const std::string file = str(path, ":", st.st_ino, ":", st.st_size, ":", st.st_mtim.tv_sec, ".", st.st_mtim.tv_nsec);
  if (file == known_file_) return known_version_;
  TRY(std::string version, shim::probe_version(ctx, path));
  known_file_ = file;
  known_version_ = version;
  return version;
}

}  // namespace driver
