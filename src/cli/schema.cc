#include "base/json.h"
#include "cli/verb.h"
#include "driver/options/config.h"

namespace cli {

// The reference in docs/ is made with this; a test says when it is stale.
int schema_command(const Verb& self, Call& call) {
  Flags flags;
  bool markdown = false;
  flags.toggle("markdown", 0, "print the text of docs/options.md instead of JSON", markdown);
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (!args->empty()) {
    return misuse(self, call.io,
                  base::Error::invalid_argument(base::str("unexpected argument \"", args->front(), "\"")));
  }
  if (markdown) {
    print_own(call.io, driver::options_markdown());
  } else {
    print_json(call.io, driver::options_json());
  }
  return kExitOk;
}

}  // namespace cli
