// The flags of `run` about networks, and what they ask the driver for.
#pragma once

#include <string>
#include <vector>

#include "base/fd.h"
#include "base/json_fwd.h"
#include "base/result.h"
#include "cli/flags.h"
#include "driver/driver.h"

namespace cli {

struct NetworkFlags {
  std::string net;  ///< bridge, host, none, cni/NAME, container:ID; "" = bridge if ports are published, else none
  std::vector<std::string> publish;
  std::string ip;
  std::string ip6;
  std::string mac;
  std::vector<std::string> add_host;
  std::vector<std::string> dns;
  std::vector<std::string> dns_search;
  std::vector<std::string> dns_option;

  void declare(Flags& flags);
};

/// What the flags mean for the options of a task and for its network. Pure.
///   errors  kInvalidArgument naming the flag
base::Status apply_network(const NetworkFlags& flags, base::Json& options, driver::TaskSpec& spec);

/// The namespaces of other containers: the network's with --net container:ID, that of processes with --pid
/// container:ID.
/// The spec names them by descriptors, which are returned, to be held until the start is over: the pid of a container
/// that ends meanwhile may be another's then.
///   errors  kNotFound · kFailedPrecondition it does not run
base::Result<std::vector<base::Fd>> join_containers(driver::Driver& driver, const NetworkFlags& flags,
                                                    const std::string& pid, driver::TaskSpec& spec);

}  // namespace cli
