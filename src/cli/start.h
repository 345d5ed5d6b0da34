// What run --detach, create and start have in common.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cli/definition.h"
#include "cli/run_spec.h"
#include "cli/signals.h"
#include "cli/verb.h"

namespace cli {

/// The verb that the shim starts as a container's logging program; not for people.
inline constexpr const char* kLogWriterVerb = "log-writer";
/// DATA_DIR STATE_DIR CONTAINER: what remove_when_ended() is started by; not for people, either.
inline constexpr const char* kRemoverVerb = "remove-when-ended";

/// Writes down what a container is to be made from, under a name that nobody has.
///   args    of the verb, with its flags
///   errors  kAlreadyExists the name is taken · as write_definition
base::Result<Definition> define(const Globals& globals, const RunFlags& flags, const std::vector<std::string>& args,
                                driver::TaskSpec& spec);

/// Gives a container another name, which nobody has.
///   errors  kInvalidArgument, kAlreadyExists · as read_definition and write_definition
base::Status rename_defined(const std::string& data_dir, const std::string& container_id, const std::string& name);

/// Starts it, on what its last run had written if there was one.
///   blocks  as Driver::start
base::Status start_defined(Call& call, SignalRelay& signals, const Definition& definition);

/// Starts a process of its own that removes the container once it has ended: what --detach --rm asks for.
base::Status begin_remover(const Globals& globals, const Definition& definition);
/// What that process does. Returns its exit code.
int remove_when_ended(const std::string& data_dir, const std::string& state_dir, const std::string& container_id);

/// Pulls the image of a run unless it is here, and names it in `options` as the store knows it.
base::Status ensure_run_image(Call& call, SignalRelay& signals, const RunFlags& flags, driver::TaskOptions& options);

/// "" is `otherwise`.
///   errors  kInvalidArgument
base::Result<std::chrono::seconds> parse_stop_timeout(const std::string& seconds, std::chrono::seconds otherwise);

/// The path of the running program.
base::Result<std::string> own_program();

/// Percent-encoded where a path of a URL may not have the byte. Pure.
std::string url_path(std::string_view path);

}  // namespace cli
