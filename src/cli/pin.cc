#include "cli/verb.h"
#include "oci/store.h"

namespace cli {

using base::Error;

namespace {

constexpr std::chrono::minutes kPinTimeout{1};

int set_pins(const Verb& self, Call& call, bool pinned);

}  // namespace

int pin_command(const Verb& self, Call& call) {
  return set_pins(self, call, true);
}

int unpin_command(const Verb& self, Call& call) {
  return set_pins(self, call, false);
}

namespace {

int set_pins(const Verb& self, Call& call, bool pinned) {
  Flags flags;
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (args->empty()) return misuse(self, call.io, Error::invalid_argument("name the images"));
  const std::string data_dir = call.globals.options().data_dir;
  oci::Images images({.data_dir = data_dir, .helper = ""});
  oci::Store store(data_dir);
  for (const std::string& arg : *args) {
    const auto name = find_image(images, arg, OfSeveralNames::kRefused);
    const auto ctx = base::Context::background().with_timeout(kPinTimeout);
    const auto set = name ? store.set_pinned(ctx, *name, pinned) : base::Status(name.error());
    if (set) {
      print_line(call.io, *name);
    } else {
      exit_code = fail(call.io, set.error(), kExitMisuse);
    }
  }
  return exit_code;
}

}  // namespace
}  // namespace cli
