// Networks that the driver makes itself: attaching a container, and giving back what it had.
//
// disk     <data_dir>/tasks/.networks: what is owed (cni/debt.h). Among the tasks, for the image helper never sees
//          those, and on a disk, for addresses are remembered on one, too.
//          <state_dir>/netns/<container id>: the namespaces; <state_dir>/network.conflist: our own network
// threads  any; calls for one container are serialised by its lock
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/context.h"
#include "base/json_fwd.h"
#include "base/result.h"
#include "driver/values/options.h"
#include "driver/values/task_spec.h"

namespace driver {

struct AttachRequest {
  const PluginOptions& options;
  std::string container_id;
  std::string netns;  ///< where to make its namespace
  OwnNetwork wanted;
  std::vector<std::pair<std::string, std::string>> args;  ///< for plugins: NOMAD_ALLOC_ID …
};

/// What a container has of a network.
struct AttachedNetwork {
  std::string container_id;
  std::string network;  ///< "cdnet0"
  std::string address;  ///< IPv4, without a prefix; "" = none
  std::string address_v6;
  std::string gateway;
  std::vector<PublishedPort> ports;
  Dns dns;
};

/// Makes the namespace and attaches it. What that may leave is owed from the first step on: on error, and at the end of
/// the container, the caller calls give_back().
///   blocks  as long as the plugins do, at most 40 s
///   errors  kUnavailable, kDeadlineExceeded worth a retry · kInvalidArgument, kNotFound no such network, or it cannot
///           do what is wanted · kFailedPrecondition a port is taken, a plugin says no
base::Result<AttachedNetwork> attach_network(const base::Context& ctx, const AttachRequest& request);

/// Gives back all that a container had: addresses, rules, links, namespace. Nothing to do = OK.
///   errors  the first; what could not be given back stays owed
base::Status give_back_network(const base::Context& ctx, const std::string& data_dir, const std::string& container_id);

/// Gives back what nobody wants any more: of other boots, and of containers that `is_wanted` does not want. What fails
/// is logged, and stays owed for the next time.
void settle_networks(const base::Context& ctx, const std::string& data_dir,
                     const std::function<bool(const std::string& container_id)>& is_wanted);

/// What containers have now; what cannot be read is left out. Of one, or of all with "".
std::vector<AttachedNetwork> attached_networks(const std::string& data_dir, const std::string& container_id);

/// A network that containers can be attached to.
struct NetworkInfo {
  std::string name;  ///< for --net: "bridge", "cni/NAME"
  std::string network;
  std::string plugins;  ///< "bridge, portmap"
  std::string file;     ///< "" = ours, not yet made
  std::string problem;  ///< why it cannot be used, "" = it can
  std::string text;     ///< the list as JSON
};
/// Our own first.
///   errors  a folder cannot be read
base::Result<std::vector<NetworkInfo>> list_networks(const PluginOptions& options);

}  // namespace driver
