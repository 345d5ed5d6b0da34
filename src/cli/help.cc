#include "cli/verb.h"

namespace cli {

int help_command(const Verb& self, Call& call) {
  Flags flags;
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (args->empty()) {
    print_own(call.io, usage_text());
    return kExitOk;
  }
  for (const Verb& verb : verbs()) {
    if (verb.name != args->front()) continue;
    Call asked{{}, {"--help"}, call.io};
    return verb.run(verb, asked);
  }
  return misuse(self, call.io, base::Error::invalid_argument(base::str("there is no command \"", args->front(), "\"")));
}

}  // namespace cli
