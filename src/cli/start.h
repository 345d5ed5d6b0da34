// What run --detach, create and start have in common.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <optional>
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

/// The flags and arguments of `run` and `create`. nullopt: the verb is done, with `exit_code`.
std::optional<RunRequest> parse_run(const Verb& self, Call& call, int& exit_code);

/// Writes down what a container is to be made from, under a name that nobody has.
///   errors  kAlreadyExists the name is taken · as write_definition
base::Result<Definition> define(const Globals& globals, const RunRequest& request);

/// Gives a container another name, which nobody has.
///   errors  kInvalidArgument, kAlreadyExists · as read_definition and write_definition
base::Status rename_defined(const std::string& data_dir, const std::string& container_id, const std::string& name);

/// Keeps limits for the starts to come, beside those that were changed before.
///   errors  as read_definition and write_definition
base::Status update_defined(const std::string& data_dir, const std::string& container_id,
                            const std::map<std::string, std::string>& updates);

/// Starts it, on what its last run had written if there was one.
///   blocks  as Driver::start
base::Status start_defined(Call& call, SignalRelay& signals, const Definition& definition);

/// Starts a process of its own that removes the container once it has ended: what --detach --rm asks for.
base::Status begin_remover(const Globals& globals, const Definition& definition);
/// What that process does. Returns its exit code.
int remove_when_ended(const std::string& data_dir, const std::string& state_dir, const std::string& container_id);

/// Pulls the image of a run unless it is here, and names it in the request as the store knows it.
base::Status ensure_run_image(Call& call, SignalRelay& signals, RunRequest& request);

/// How long a container may take to stop if nobody says otherwise.
inline constexpr std::chrono::seconds kStopTimeoutDefault{10};
/// "" is `otherwise`.
///   errors  kInvalidArgument
base::Result<std::chrono::seconds> parse_stop_timeout(const std::string& seconds, std::chrono::seconds otherwise);

/// What --stop-timeout said when it was made; `otherwise` if nothing, or of a task of Nomad's.
std::chrono::seconds own_stop_timeout(const std::optional<Definition>& definition, std::chrono::seconds otherwise);

/// Begins to stop a container that is attached to. What it returns waits for the end.
///   errors  as Driver::stop
using End = std::function<base::Status()>;
base::Result<End> begin_stop(driver::Driver& driver, const driver::TaskId& id, std::chrono::seconds timeout);

/// What a verb makes of a container that was only created.
enum class IfCreated { kIsFine, kNotRunning };
/// Begins with one of the containers, which is attached to.
using Begin = std::function<base::Result<End>(driver::Driver&, const Container&)>;
/// Begins with all that are named before it waits for one, and prints the name of each that is done; one that fails
/// does not keep the others. Returns the exit code.
int for_each_named(Call& call, const std::vector<std::string>& wanted, IfCreated if_created, const Begin& begin);

/// Says how a container has ended if that needs words; returns the exit code.
int report_exit(Io& io, const driver::ExitResult& exit);

/// Starts this program once more, with these arguments, in a session of its own and with nothing to read and to show.
base::Status begin_own_program(std::vector<std::string> args);

/// Percent-encoded where a path of a URL may not have the byte. Pure.
std::string url_path(std::string_view path);

}  // namespace cli
