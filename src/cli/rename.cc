#include "cli/start.h"
#include "cli/verb.h"

namespace cli {

using base::Error;
using base::str;

int rename_command(const Verb& self, Call& call) {
  Flags flags;
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (args->size() != 2) return misuse(self, call.io, Error::invalid_argument("name a container, and its new name"));
  const std::string& wanted = args->front();
  const auto found = find_container(call.globals, wanted);
  if (!found) return fail(call.io, found.error(), kExitMisuse);
  if (!found->definition) {
    return fail(
        call.io,
        Error::failed_precondition(str(wanted, " cannot be renamed: only what the command line made has a name")),
        kExitMisuse);
  }
  const std::string data_dir = call.globals.options().data_dir;
  const auto renamed = rename_defined(data_dir, found->definition->container_id, args->back());
  return renamed ? kExitOk : fail(call.io, Error(renamed.error()).wrap(str("renaming ", wanted)), kExitMisuse);
}

}  // namespace cli
