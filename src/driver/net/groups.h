// Network namespaces of groups, for nodes with networks = "driver": made when an agent asks for them, and kept until it
// gives them back, or until it is certain that nobody will.
//
// What connects such a namespace (the interface, its addresses, the group's ports) is the agent's own work: it runs CNI
// in every namespace of a group, whoever has made it.
//
// disk     /var/run/netns/<allocation>, where agents make theirs: a node can change between the two ways
//          <state_dir>/groups/<allocation>.json: which of them are ours, and for which agent
// threads  any; calls for one allocation are serialised by a lock between processes
#pragma once

#include <functional>
#include <string>

#include "base/context.h"
#include "base/process.h"
#include "base/result.h"
#include "driver/values/status.h"

namespace driver {

/// Where the namespaces and what is known of them are; a test has others.
struct GroupPlaces {
  std::string state_dir;
  std::string netns_dir = "/var/run/netns";
};

/// Makes the namespace of an allocation, with loopback up. One that is there already, ours or an agent's, is kept.
///   agent    the process that it is made for
///   errors   kInvalidArgument an allocation id or a host name that cannot be one · by errno; then nothing is left
base::Result<GroupNetwork> make_group_network(const base::Context& ctx, const GroupPlaces& places,
                                              const std::string& alloc_id, const std::string& hostname,
                                              const base::ProcessId& agent);

/// Notes where the allocation's folder is, from its first task: when that is gone, so is the group. Not ours = OK.
base::Status note_group_folder(const base::Context& ctx, const GroupPlaces& places, const std::string& alloc_id,
                               const std::string& alloc_dir);

/// Removes it. Nothing there, and one that is not in our folder = OK.
base::Status remove_group_network(const base::Context& ctx, const GroupPlaces& places, const std::string& alloc_id);

/// Removes those that no agent will give back: whose allocation's folder is gone, or, where it never had a task, made
/// for an agent that has ended and not asked for again by the one that runs now; without a process, and not wanted by
/// `is_wanted`. What fails is logged, and tried again the next time.
///   agent    the one that runs now; not known (pid 0): nothing is removed
void settle_group_networks(const base::Context& ctx, const GroupPlaces& places, const base::ProcessId& agent,
                           const std::function<bool(const std::string& alloc_id)>& is_wanted);

}  // namespace driver
