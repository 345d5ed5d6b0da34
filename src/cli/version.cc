#include "version.h"

#include "base/json.h"
#include "cli/verb.h"
#include "driver/host/programs.h"

namespace cli {

namespace {

std::string program_or_reason(const base::Result<std::string>& program) {
  return program ? *program : base::str("(", program.error().message, ")");
}

}  // namespace

// Works without root and without a shim: the first thing that a bug report needs.
int version_command(const Verb& self, Call& call) {
  Flags flags;
  std::string output;
  flags.value("output", 'o', "json", "print JSON", output);
  int exit_code = kExitOk;
  if (!parse_flags_only(self, call, flags, exit_code)) return exit_code;
  if (auto valid = check_output_format(output); !valid) return misuse(self, call.io, valid.error());

  const driver::PluginOptions options = call.globals.options();
  const auto shim = driver::find_program(options.shim, "shim");
  const auto ctx = base::Context::background().with_timeout(std::chrono::seconds(5));
  const std::string shim_version =
      shim ? driver::probe_shim_version(ctx, *shim).value_or(std::string("unknown")) : std::string("none");
  const std::string runtime = program_or_reason(driver::find_program(options.runtime_binary, "runtime"));
  const std::string helper = program_or_reason(driver::find_image_helper(options.image_helper));
  if (output == "json") {
    print_json(call.io, {{"version", base::kVersion},
                         {"shim", program_or_reason(shim)},
                         {"shim_version", shim_version},
                         {"runtime", runtime},
                         {"image_helper", helper}});
    return kExitOk;
  }
  print_line(call.io, base::str("containerd-driver ", base::kVersion));
  print_rows(call.io,
             {{"shim", shim_version, program_or_reason(shim)}, {"runtime", "", runtime}, {"image helper", "", helper}});
  return kExitOk;
}

}  // namespace cli
