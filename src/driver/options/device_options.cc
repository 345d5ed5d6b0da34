// The option `devices`: its three written forms.
#include <algorithm>

#include "base/json.h"
#include "driver/options/rows.h"

namespace driver {

using base::Error;
using base::Json;
using base::Result;
using base::str;

namespace {

constexpr std::size_t kDevicesMax = 4096;  ///< that a job may name

Result<DeviceOption> parse_device(const Json& value, const std::string& where);
Result<DeviceOption> parse_device_text(const std::string& text, const std::string& where);
Result<DeviceOption> parse_device_block(const Json& block, const std::string& where);
Result<DeviceOption> checked(DeviceOption device, const std::string& where);
bool is_permissions(const std::string& text);
bool is_cdi_name(const std::string& text);

}  // namespace

Result<std::vector<DeviceOption>> decode_devices(const Json& value, const std::string& where) {
  std::vector<DeviceOption> devices;
  if (!value.is_array()) {
    if (value == "") return devices;
    TRY(DeviceOption device, parse_device(value, where));
    devices.push_back(std::move(device));
    return devices;
  }
  if (value.size() > kDevicesMax) {
    return Error::invalid_argument(str(where, " has ", value.size(), " elements, the limit is ", kDevicesMax));
  }
  Mistakes wrong;
  for (const Json& element : value) {
    const std::string each = str(where, "[", devices.size(), "]");
    wrong.take(devices.emplace_back(), parse_device(element, each));
  }
  TRY_VOID(std::move(wrong).status());
  return devices;
}

namespace {

Result<DeviceOption> parse_device(const Json& value, const std::string& where) {
  if (const auto* text = value.get_ptr<const std::string*>()) return parse_device_text(*text, where);
  if (value.is_object()) return parse_device_block(value, where);
  return Error::invalid_argument(
      str(where, " = ", show_value(value),
          " is not a valid device: write \"/dev/fuse\", \"/dev/sda:/dev/xvda:r\", or a block with "
          "host_path"));
}

Result<DeviceOption> parse_device_text(const std::string& text, const std::string& where) {
  if (is_cdi_name(text)) {
    return refuse(where, text,
                  "is the name of a CDI device, and this driver takes no CDI: ask for the device by a device block in "
                  "resources (one of Nomad's device plugins), or name the device's files, like /dev/nvidia0");
  }
  std::vector<std::string> parts;
  for (std::size_t from = 0; from <= text.size();) {
    const std::size_t end = std::min(text.find(':', from), text.size());
    parts.push_back(text.substr(from, end - from));
    from = end + 1;
  }
  if (parts.size() > 3) return refuse(where, text, "has more than three parts: write host:container:permissions");
  DeviceOption device{.host_path = parts[0]};
  if (parts.size() == 2 && is_permissions(parts[1])) {
    device.permissions = parts[1];
  } else if (parts.size() > 1) {
    device.container_path = parts[1];
  }
  if (parts.size() == 3) device.permissions = parts[2];
  return checked(std::move(device), where);
}

Result<DeviceOption> parse_device_block(const Json& block, const std::string& where) {
  DeviceOption device;
  for (const auto& [key, value] : block.items()) {
    if (value.is_null()) continue;
    std::string* member = key == "host_path"            ? &device.host_path
                          : key == "container_path"     ? &device.container_path
                          : key == "cgroup_permissions" ? &device.permissions
                                                        : nullptr;
    const auto* text = value.get_ptr<const std::string*>();
    if (member == nullptr) {
      return Error::invalid_argument(
          str(where, ".", key, " is not known: use host_path, container_path and cgroup_permissions"));
    }
    if (text == nullptr) {
      return Error::invalid_argument(str(where, ".", key, " = ", show_value(value), " must be a string"));
    }
    if (!text->empty()) *member = *text;
  }
  return checked(std::move(device), where);
}

Result<DeviceOption> checked(DeviceOption device, const std::string& where) {
  TRY_VOID(check_absolute(where, device.host_path));
  TRY_VOID(check_absolute(where, device.container_path));
  if (device.host_path.empty()) {
    return Error::invalid_argument(str(where, " does not name a device of the host: give its path, like /dev/fuse"));
  }
  if (!is_permissions(device.permissions)) {
    return refuse(where, device.permissions, "are not valid permissions: use letters of \"rwm\", each once");
  }
  return device;
}

// spec: CDI "Qualified device names": vendor.com/class=name
bool is_cdi_name(const std::string& text) {
  const std::size_t slash = text.find('/');
  const std::size_t equals = text.find('=', slash);
  return slash != 0 && slash != std::string::npos && equals != std::string::npos && equals > slash + 1;
}

bool is_permissions(const std::string& text) {
  if (text.empty() || text.find_first_not_of("rwm") != std::string::npos) return false;
  std::string sorted = text;
  std::sort(sorted.begin(), sorted.end());
  return std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end();
}

}  // namespace
}  // namespace driver
