#include "driver/life/fingerprint.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/loop.h"
#include "driver/host/programs.h"
#include "driver/life/gates.h"
#include "shim/shim.h"
#include "version.h"

namespace driver {

namespace {
using base::Result;
using base::str;

constexpr std::size_t kSwitchBytesMax = 64;

Fingerprint undetected(std::string why) {
  return {{}, Health::kUndetected, std::move(why)};
}

// What traffic of bridges needs of the kernel; "missing" = the module is not loaded.
std::string switch_state(const char* path) {
  const auto value = base::read_file(path, kSwitchBytesMax);
  if (!value) return value.error().code == base::Code::kNotFound ? "missing" : "unknown";
  return value->starts_with('0') ? "false" : "true";
}

base::Status check_directory(const std::string& path, const char* option) {
  auto made = base::make_dirs(path, 0700);
  if (!made) return std::move(made).error().wrap(str(option, " cannot be used"));
  if (::access(path.c_str(), W_OK) != 0) {
    return base::Error::from_errno(errno, str(option, " ", path, " is not writable"));
  }
  return {};
}

}  // namespace

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
  found.attributes[prefix + "ip_forward"] = switch_state("/proc/sys/net/ipv4/ip_forward");
  found.attributes[prefix + "br_netfilter"] = switch_state("/proc/sys/net/bridge/bridge-nf-call-iptables");
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
