// What is done with a network: containers are attached to it, looked after and detached, by its plugins in turn.
//
// flow     add: plugins in order, each given the result of the one before; the last result goes to the cache
//          del: plugins in reverse order, with the cached result; the cache entry goes when all have succeeded
// locks    one container's calls never overlap, whatever process makes them; GC of a network overlaps with no ADD or
//          DEL of it. Locks are held until the last process that a plugin started is gone.
// failure  A failed ADD leaves whatever its plugins left: the caller owes a DEL (debt.h). A failed DEL of one plugin
//          does not keep the others from theirs, and may be repeated.
//
// spec     CNI SPEC.md "Section 2: Execution Protocol", "Section 3: Execution of Network Configurations"
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "base/context.h"
#include "base/result.h"
#include "cni/attachment.h"
#include "cni/cache.h"
#include "cni/plugin.h"
#include "cni/result.h"
#include "cni/types.h"

namespace cni {

struct RuntimeOptions {
  std::vector<std::string> plugin_dirs = default_plugin_dirs();
  std::string cache_dir = kDefaultCacheDir;
  /// All plugins of a list together. Longer than any that works takes, shorter than an agent's patience.
  std::chrono::milliseconds add_timeout{std::chrono::seconds(40)};
  std::chrono::milliseconds del_timeout{std::chrono::seconds(20)};
};

/// threads  any; errors name the network, the plugin and the command
class Runtime {
 public:
  explicit Runtime(RuntimeOptions options);

  /// Told after each plugin what is made so far; its error ends the ADD.
  using OnStep = std::function<base::Status(const AddResult& so_far)>;

  /// Attaches a container. An attachment that is in the cache already is an error.
  ///   errors  as Plugins::run · kAlreadyExists · kInvalidArgument a plugin's result is none
  base::Result<AddResult> add(const base::Context& ctx, const NetworkList& list, const Attachment& attachment,
                              const OnStep& on_step = {}) const;

  /// Detaches it. What was never attached, or is gone, counts as detached.
  ///   known_result  what the plugins are told where the cache has nothing, as after an ADD that failed half way: some
  ///                 (firewall) undo nothing without. In the form of kNewest; "" = nothing
  ///   errors        the first plugin's that failed; all were asked
  base::Status del(const base::Context& ctx, const NetworkList& list, const Attachment& attachment,
                   const std::string& known_result = "") const;

  /// Asks every plugin whether all is as ADD left it; lists with disableCheck are not asked.
  ///   errors  kFailedPrecondition the list is older than 0.4.0, or nothing is cached · a plugin's
  base::Status check(const base::Context& ctx, const NetworkList& list, const Attachment& attachment) const;

  /// Detaches every cached attachment of this network that is not in `valid`, then tells the plugins which are. Nothing
  /// with disableGC. For networks whose every container is known to the caller: anybody else's are detached, too.
  ///   errors  kFailedPrecondition the list is older than 1.1.0 · the first that failed; all were asked
  base::Status gc(const base::Context& ctx, const NetworkList& list, const std::vector<Attachment>& valid) const;

  /// Whether the plugins are ready for an ADD. Lists older than 1.1.0 cannot be asked, and count as ready.
  base::Status status(const base::Context& ctx, const NetworkList& list) const;

  /// The versions that a plugin speaks.
  base::Result<std::vector<std::string>> versions(const base::Context& ctx, const std::string& type) const;
  /// Whether every plugin of the list is there and speaks its version.
  base::Status validate(const base::Context& ctx, const NetworkList& list) const;

 private:
  struct Locks;
  base::Result<Locks> lock(const base::Context& ctx, const NetworkList& list, const Attachment& attachment) const;
  base::Result<std::string> run(const base::Context& ctx, const PluginInput& input, Command command,
                                const Locks& locks) const;
  base::Status del_locked(const base::Context& ctx, const NetworkList& list, const Attachment& attachment,
                          const Locks& locks, const std::string& known_result) const;
  std::string prev_result_for_del(const NetworkList& list, const Attachment& attachment,
                                  const std::string& known_result) const;

  RuntimeOptions options_;
  Plugins plugins_;
  Cache cache_;
};

}  // namespace cni
