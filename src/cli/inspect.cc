#include "base/json.h"
#include "cli/verb.h"
#include "oci/images.h"
#include "oci/platform.h"

namespace cli {

using base::Error;
using base::Result;
using base::str;

namespace {

Result<base::Json> inspect(const Globals& globals, const std::string& wanted);
Result<base::Json> inspect_image(const Globals& globals, const std::string& reference);

}  // namespace

int inspect_command(const Verb& self, Call& call) {
  Flags flags;
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (args->size() != 1) {
    return misuse(self, call.io, Error::invalid_argument("name one container, or one image"));
  }
  const auto found = inspect(call.globals, args->front());
  if (!found) return fail(call.io, found.error());
  print_json(call.io, *found);
  return kExitOk;
}

namespace {

// A container's name has no slash and no colon, and few images are called so.
Result<base::Json> inspect(const Globals& globals, const std::string& wanted) {
  const auto session = open_driver(globals);
  if (session) {
    TRY(const auto all, list_containers((*session)->driver));
    const auto container = find_container(all, wanted);
    if (container) return json_of_task(container->task);
    if (container.error().code != base::Code::kNotFound) return container.error();
  }
  auto image = inspect_image(globals, wanted);
  const bool no_such_name = !image && image.error().code == base::Code::kNotFound;
  if (!no_such_name) return image;
  if (!session) return session.error();
  return Error::not_found(str("there is neither a container nor an image ", wanted,
                              ": see containerd-driver ps, containerd-driver images"));
}

Result<base::Json> inspect_image(const Globals& globals, const std::string& reference) {
  oci::Images images({.data_dir = globals.options().data_dir, .helper = ""});
  TRY(const std::string name, find_image(images, reference));
  TRY(const oci::Image image, images.find(name));
  const oci::ImageConfig& config = image.config;
  base::Json out = {{"reference", image.reference},
                    {"digest", image.manifest_digest.text()},
                    {"resolved_digest", image.resolved_digest.text()},
                    {"platform", oci::to_string(oci::normalize({config.os, config.architecture, config.variant, {}}))},
                    {"size_bytes", image.size_bytes},
                    {"pulled_at", json_time(image.pulled_at_unix)},
                    {"layer_dirs", image.layer_dirs},
                    {"config",
                     {{"entrypoint", config.entrypoint},
                      {"cmd", config.cmd},
                      {"env", config.env},
                      {"user", config.user},
                      {"working_dir", config.working_dir},
                      {"stop_signal", config.stop_signal},
                      {"volumes", config.volumes},
                      {"labels", config.labels}}}};
  if (image.verdict) {
    out["verified"] = {
        {"by", image.verdict->verifiers}, {"word", image.verdict->word}, {"at", json_time(image.verdict->at_unix)}};
  }
  return out;
}

}  // namespace
}  // namespace cli
