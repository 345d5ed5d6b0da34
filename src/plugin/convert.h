// The driver's values and the protocol's messages, one into the other. Pure.
#pragma once

#include <chrono>
#include <optional>

#include "base/result.h"
#include "driver/driver.h"
#include "driver/values/task_spec.h"

namespace nomad::wkt {
class Duration;
class Timestamp;
}  // namespace nomad::wkt
namespace nomad::base {
class ClientTopology;
}
namespace nomad::driver {
class CreateNetworkResponse;
class DriverCapabilities;
class DriverTaskEvent;
class ExitResult;
class FingerprintResponse;
class InspectTaskResponse;
class TaskConfig;
class TaskStats;
}  // namespace nomad::driver

namespace plugin {

/// Sizes of one task's configuration that no honest job comes near.
constexpr int kEnvVariablesMax = 16'384;
constexpr int kListEntriesMax = 4'096;  // mounts, devices, ports, dns lists: each

/// Everything of the request that the driver acts on, with the decoded options.
///   errors  kInvalidArgument naming the field or option · kResourceExhausted over a limit
base::Result<driver::TaskSpec> to_task_spec(const nomad::driver::TaskConfig& config);

/// Total compute and the speed of one core, by the agent's rules: a core's speed is the first of base, max and guess
/// that is set; an override replaces the sum.
driver::NodeInfo to_node_info(const nomad::base::ClientTopology& topology);

/// kInvalidArgument if it is negative or longer than a century.
base::Result<std::chrono::nanoseconds> to_duration(const nomad::wkt::Duration& duration);

/// Go's zero time (year 1) when there is none: the agent's own spelling of "not yet".
void fill(const std::optional<driver::WallTime>& time, nomad::wkt::Timestamp* out);
void fill(const driver::ExitResult& exit, nomad::driver::ExitResult* out);
void fill(const driver::Fingerprint& fingerprint, nomad::driver::FingerprintResponse* out);
void fill(const driver::TaskStatus& status, nomad::driver::InspectTaskResponse* out);
void fill(const driver::TaskId& id, const driver::TaskStats& stats, nomad::driver::TaskStats* out);
void fill(const driver::TaskEvent& event, nomad::driver::DriverTaskEvent* out);

/// What this driver can do.
nomad::driver::DriverCapabilities capabilities(driver::NetworksBy networks);

/// `hostname`: the group's, "" = none.
void fill(const driver::GroupNetwork& network, const std::string& hostname,
          nomad::driver::CreateNetworkResponse* out);

}  // namespace plugin
