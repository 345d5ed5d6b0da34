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
  if (!parse_flags_only(self, call, flags, exit_code)) return exit_code;
  if (markdown) {
    print_own(call.io, driver::options_markdown());
  } else {
    print_json(call.io, driver::options_json());
  }
  return kExitOk;
}

}  // namespace cli
