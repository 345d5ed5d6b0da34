#include "driver/life/driver_state.h"

#include "base/json.h"

namespace driver {

namespace {
using base::Error;
using base::str;

constexpr char kDriverName[] = "containerd-driver";
constexpr int kStateVersion = 1;
constexpr std::size_t kStateBytesMax = 64 * 1024;

struct State {
  std::string driver;
  std::int64_t version = 0;
  std::string boot_id;
};

base::Result<State> decode(const std::string& text);
bool written_by_go_driver(const std::string& state);
}  // namespace

std::string encode_driver_state(const Record& record) {
  return base::dump_json({{"driver", kDriverName},
                          {"version", kStateVersion},
                          {"container_id", record.names.container_id},
                          {"boot_id", record.boot_id}});
}

Error explain_missing_record(const TaskId& id, const std::string& driver_state) {
  const std::string subject = str("task ", id.text, " cannot be recovered: ");
  if (written_by_go_driver(driver_state)) {
    return Error::failed_precondition(
        str(subject,
            "it was started by the Go containerd driver, whose containers this driver does not take over; drain the "
            "node before the change, see docs/migration.md"));
  }
  const auto state = decode(driver_state);
  if (!state) return Error::invalid_argument(str(subject, "its handle is damaged: ", state.error().message));
  if (state->driver != kDriverName) {
    return Error::failed_precondition(str(subject, "its handle was written by another driver"));
  }
  if (state->version > kStateVersion) {
    return Error::failed_precondition(str(subject, "its handle was written by a newer version of this driver"));
  }
  if (state->boot_id != base::boot_id()) {
    return Error::not_found(str(subject, "the host was rebooted, or the handle comes from another host"));
  }
  return Error::not_found(
      str(subject,
          "there is no record of it in data_dir: it was removed after it had ended, or data_dir is another one now"));
}

namespace {

base::Result<State> decode(const std::string& text) {
  TRY(const base::Json json, base::parse_json(text, "driver state", {.bytes_max = kStateBytesMax}));
  TRY(const auto driver, base::get_string(json, "driver"));
  TRY(const auto version, base::get_int(json, "version"));
  TRY(const auto boot_id, base::get_string(json, "boot_id"));
  return State{driver.value_or(""), version.value_or(0), boot_id.value_or("")};
}

// The Go driver's state is a msgpack map with the field names of its Go struct.
bool written_by_go_driver(const std::string& state) {
  return state.find("ContainerName") != std::string::npos && state.find("StartedAt") != std::string::npos;
}

}  // namespace
}  // namespace driver
