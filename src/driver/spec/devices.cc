#include "driver/spec/devices.h"

#include <sys/stat.h>

#include <filesystem>
#include <map>

namespace driver {

using base::Error;
using base::Result;
using base::Status;
using base::str;

namespace {

constexpr std::size_t kDevicesMax = 4096;  ///< in a container; a host's whole /dev has some hundreds

Status add_device(const DeviceOption& wanted, std::map<std::string, Device>& devices);
bool is_directory(const std::string& path);

}  // namespace

Result<std::vector<Device>> find_devices(const std::vector<DeviceOption>& wanted,
                                         const std::vector<NomadDevice>& from_nomad) {
  std::map<std::string, Device> by_path;
  for (const DeviceOption& device : wanted) TRY_VOID(add_device(device, by_path));
  for (const NomadDevice& device : from_nomad) {
    const std::string permissions = device.permissions.empty() ? "rwm" : device.permissions;
    TRY_VOID(add_device({device.host_path, device.task_path, permissions}, by_path));
  }
  std::vector<Device> devices;
  for (auto& [path, device] : by_path) devices.push_back(std::move(device));
  return devices;
}

namespace {

Status add_device(const DeviceOption& wanted, std::map<std::string, Device>& devices) {
  const std::string inside =
      std::filesystem::path(wanted.container_path.empty() ? wanted.host_path : wanted.container_path)
          .lexically_normal();
  const auto add = [&](Device device, std::string path) {
    device.path = std::move(path);
    device.access = wanted.permissions;
    devices[device.path] = std::move(device);
  };
  if (!is_directory(wanted.host_path)) {
    TRY(Device device, stat_device(wanted.host_path));
    add(std::move(device), inside);
    return {};
  }
  const std::string folder = wanted.host_path.ends_with('/') ? wanted.host_path : wanted.host_path + "/";
  const std::vector<Device> found = host_devices(folder);
  if (found.empty()) {
    return Error::invalid_argument(str("device folder ", wanted.host_path, " contains no devices: name a device"));
  }
  for (const Device& device : found) {
    add(device, (std::filesystem::path(inside) / device.path.substr(folder.size())).string());
  }
  if (devices.size() > kDevicesMax) {
    return Error::invalid_argument(
        str("devices: ", wanted.host_path, " has too many devices, the limit is ", kDevicesMax));
  }
  return {};
}

bool is_directory(const std::string& path) {
  struct stat info = {};
  return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

}  // namespace
}  // namespace driver
