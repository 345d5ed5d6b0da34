// A container of another image beside one that runs: with its processes and its network, and its files at /target.
#include "cli/run_spec.h"
#include "cli/verb.h"

namespace cli {

using base::Error;
using base::Result;
using base::str;

namespace {

struct DebugFlags {
  std::string image;
  bool interactive = false;
  bool tty = false;
  std::string user;
  std::vector<std::string> env;
  std::string name;
  std::string pull;

  void declare(Flags& flags);
};

Result<std::vector<std::string>> run_arguments(const Globals& globals, const DebugFlags& given,
                                               const std::vector<std::string>& args);

}  // namespace

int debug_command(const Verb& self, Call& call) {
  Flags flags;
  DebugFlags given;
  given.declare(flags);
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kAtFirstArgument, exit_code);
  if (!args) return exit_code;
  if (args->empty()) return misuse(self, call.io, Error::invalid_argument("name the container"));
  if (given.image.empty()) {
    return misuse(self, call.io, Error::invalid_argument("name the image that has the tools: --image busybox"));
  }
  if (given.image.starts_with('-')) {
    return misuse(self, call.io, Error::invalid_argument(str("--image ", given.image, " is not an image's name")));
  }
  auto composed = run_arguments(call.globals, given, *args);
  if (!composed) return fail(call.io, composed.error(), kExitRunFailure);
  call.args = *std::move(composed);
  return run_command(self, call);
}

namespace {

void DebugFlags::declare(Flags& flags) {
  flags.value("image", 0, "IMAGE", "the image that has the tools", image);
  flags.toggle("interactive", 'i', "pass on standard input", interactive);
  flags.toggle("tty", 't', "give the command a terminal", tty);
  flags.value("user", 'u', "USER[:GROUP]", "user to run as (default: the image's)", user);
  flags.list("env", 'e', "K=V", "set an environment variable; K alone passes on the caller's value", env);
  flags.value("name", 0, "NAME", "what it is called (default: the image's name)", name);
  flags.value("pull", 0, "WHEN", "ask the image's registry: always, missing (default), newer or never", pull);
}

// What a person would write behind `run`.
Result<std::vector<std::string>> run_arguments(const Globals& globals, const DebugFlags& given,
                                               const std::vector<std::string>& args) {
  TRY(const auto found, find_running(globals, args.front()));
  const std::string id = container_id_of(found.task);
  const Container container{found.task, found.definition, false};
  TRY_VOID(open_rootfs(globals.options(), container));
  std::vector<std::string> words = {
      "--rm",
      "--pid",
      "container:" + id,
      "--net",
      "container:" + id,
      "--cap-add",
      "SYS_PTRACE",  // for /proc/PID/root, and debuggers
      "--mount",
      str("type=bind,source=", rootfs_path(globals.options(), container), ",target=/target")};
  if (given.interactive) words.emplace_back("--interactive");
  if (given.tty) words.emplace_back("--tty");
  for (const auto& [flag, value] : {std::pair{"--user", given.user}, {"--name", given.name}, {"--pull", given.pull}}) {
    if (!value.empty()) words.insert(words.end(), {flag, value});
  }
  for (const std::string& variable : given.env) words.insert(words.end(), {"--env", variable});
  words.push_back(given.image);
  words.insert(words.end(), args.begin() + 1, args.end());
  return words;
}

}  // namespace
}  // namespace cli
