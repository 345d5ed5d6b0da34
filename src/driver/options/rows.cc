#include "driver/options/rows.h"

#include "oci/platform.h"

namespace driver {

using base::Status;

Status check_platform(const std::string& where, const std::string& value) {
  if (const auto platform = oci::wanted_platform(value); !platform) {
    return refuse(where, value, "is not a valid platform: use linux/arm64, linux/arm/v7 or linux/amd64");
  }
  return {};
}

}  // namespace driver
