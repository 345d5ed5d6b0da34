#include "base/json.h"
#include "cli/documents.h"
#include "cli/format.h"
#include "cli/verb.h"
#include "oci/images.h"
#include "oci/store.h"

namespace cli {

using base::Error;
using base::Result;
using base::str;

namespace {

struct InspectFlags {
  std::string format;
  std::string type = "all";
};

/// Where to look: opened once, for all that is named.
struct Sources {
  const InspectFlags& given;
  driver::PluginOptions options;
  Result<std::unique_ptr<DriverSession>> session;  // an image can be shown without root
  Result<std::vector<Container>> containers;
  std::unique_ptr<oci::Store> store;
};

Sources open_sources(const Globals& globals, const InspectFlags& given);
Result<base::Json> inspect(const Sources& sources, const std::string& wanted);
Result<base::Json> inspect_image(const Sources& sources, const std::string& wanted);

}  // namespace

int inspect_command(const Verb& self, Call& call) {
  Flags flags;
  InspectFlags given;
  flags.value("format", 'f', "TEMPLATE", "print what a template makes of it: {{.State.Status}}", given.format);
  flags.value("type", 0, "TYPE", "look at each container or image only (default: all)", given.type);
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (args->empty()) return misuse(self, call.io, Error::invalid_argument("name containers or images"));
  if (given.type != "all" && given.type != "container" && given.type != "image") {
    return misuse(self, call.io,
                  Error::invalid_argument(str("--type ", given.type, " is not known: use container, image or all")));
  }
  const Sources sources = open_sources(call.globals, given);
  std::vector<base::Json> found;
  std::vector<Error> missing;
  for (const std::string& wanted : *args) {
    auto document = inspect(sources, wanted);
    if (document) {
      found.push_back(*std::move(document));
    } else {
      missing.push_back(document.error());
    }
  }
  // What is missing does not keep the others.
  const bool prints = given.format.empty() || !found.empty();
  if (auto printed = prints
                         ? print_formatted(call.io, given.format.empty() ? "json" : given.format, found, base::Json())
                         : base::Status();
      !printed) {
    return fail(call.io, printed.error(), kExitMisuse);
  }
  for (const Error& error : missing) exit_code = fail(call.io, error, kExitMisuse);
  return exit_code;
}

namespace {

Sources open_sources(const Globals& globals, const InspectFlags& given) {
  Sources sources{given, globals.options(), std::unique_ptr<DriverSession>(), std::vector<Container>(),
                  std::make_unique<oci::Store>(globals.options().data_dir)};
  if (given.type == "image") return sources;
  sources.session = open_driver(globals);
  if (sources.session) sources.containers = list_containers((*sources.session)->driver);
  return sources;
}

// A container's name has no slash and no colon, and few images are called so.
Result<base::Json> inspect(const Sources& sources, const std::string& wanted) {
  const std::string& type = sources.given.type;
  if (type == "image") return inspect_image(sources, wanted);
  if (sources.session) {
    if (!sources.containers) return sources.containers.error();
    const auto container = find_container(*sources.containers, wanted);
    if (container) return container_document(sources.options, *sources.store, *container);
    if (type == "container" || container.error().code != base::Code::kNotFound) return container.error();
  } else if (type == "container") {
    return sources.session.error();
  }
  auto image = inspect_image(sources, wanted);
  const bool no_such_name = !image && image.error().code == base::Code::kNotFound;
  if (!no_such_name) return image;
  if (!sources.session) return sources.session.error();
  return Error::not_found(str("there is neither a container nor an image ", wanted,
                              ": see containerd-driver ps -a, containerd-driver images"));
}

Result<base::Json> inspect_image(const Sources& sources, const std::string& wanted) {
  oci::Images images({.data_dir = sources.options.data_dir, .helper = ""});
  TRY(const std::string name, find_image(images, wanted));
  return image_document(sources.options.data_dir, name);
}

}  // namespace
}  // namespace cli
