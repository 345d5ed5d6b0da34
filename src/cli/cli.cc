#include "cli/cli.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <iostream>

#include "base/fd.h"
#include "base/log.h"
#include "cli/log_file.h"
#include "cli/start.h"
#include "cli/verb.h"

namespace cli {

using base::str;

namespace {

std::vector<Verb> first_verbs();
const Verb* find_verb(const std::string& name);
int write_log_of_container(const std::string& dir);
int unknown_verb(Io& io, const std::string& name);

}  // namespace

int main(const std::vector<std::string>& args) {
  if (args.size() == 2 && args.front() == kLogWriterVerb) return write_log_of_container(args.back());
  if (args.size() == 4 && args.front() == kRemoverVerb) return remove_when_ended(args[1], args[2], args[3]);
  // A reader that goes away (`… | head`) is an error of a write, not our death.
  ::signal(SIGPIPE, SIG_IGN);
  OutputBuffer buffer(STDOUT_FILENO);
  std::ostream out(&buffer);
  Io io{out, std::cerr, ::isatty(STDERR_FILENO) == 1};
  const int exit_code = main(args, io);
  out.flush();
  if (!buffer.error()) return exit_code;
  const int failed = fail(io, base::Error(*buffer.error()).wrap("standard output"));
  return exit_code == kExitOk ? failed : exit_code;
}

namespace {

// As the shim starts it: what the container writes comes on 3 and 4, and 5 is closed once somebody reads them.
int write_log_of_container(const std::string& dir) {
  constexpr int kOut = 3;
  constexpr int kErr = 4;
  constexpr int kReady = 5;
  return write_log(dir, base::Fd(kOut), base::Fd(kErr), base::Fd(kReady)) ? kExitOk : kExitFailure;
}

}  // namespace

int main(const std::vector<std::string>& args, Io io) {
  Call call{{}, {}, io};
  Flags flags;
  bool version = false;
  call.globals.declare(flags);
  flags.toggle("version", 'v', "", version);
  auto rest = flags.parse(args, Flags::Stop::kAtFirstArgument);
  if (!rest) return fail(io, std::move(rest).error().wrap("before the command"), kExitMisuse);
  if (version) rest->insert(rest->begin(), "version");
  if (rest->empty()) {
    if (!call.globals.help) io.err << usage_text();
    if (call.globals.help) print_own(io, usage_text());
    return call.globals.help ? kExitOk : kExitMisuse;
  }
  if (rest->size() == 2 && rest->front() == "man") return write_manual(rest->back(), io);
  const Verb* verb = find_verb(rest->front());
  if (verb == nullptr) return unknown_verb(io, rest->front());
  call.args.assign(rest->begin() + 1, rest->end());
  return verb->run(*verb, call);
}

const std::vector<Verb>& verbs() {
  static const std::vector<Verb> all = [] {
    std::vector<Verb> table = first_verbs();
    const auto insert_before = [&table](std::string_view name, std::vector<Verb> more) {
      const auto at = std::find_if(table.begin(), table.end(), [&](const Verb& verb) { return verb.name == name; });
      table.insert(at, more.begin(), more.end());
    };
    insert_before("rmi", image_verbs());
    insert_before("schema", node_verbs());
    return table;
  }();
  return all;
}

namespace {

std::vector<Verb> first_verbs() {
  return {
      {"run", "[flags] IMAGE [COMMAND [ARG…]]", "run a command in a new container and show its output", run_command},
      {"create", "[flags] IMAGE [COMMAND [ARG…]]", "make a container that `start` starts", create_command},
      {"start", "CONTAINER…", "start containers that are not running, on what they had written", start_command, true},
      {"restart", "[flags] CONTAINER…", "stop containers, and start them again", restart_command, true},
      {"logs", "[flags] CONTAINER", "show what a detached container has written", logs_command, true},
      {"cp", "[flags] CONTAINER:PATH PATH | PATH CONTAINER:PATH", "copy files out of a container, or into it",
       cp_command, true},
      {"ps", "[flags]", "list containers, Nomad's and our own", ps_command, true},
      {"inspect", "[flags] CONTAINER|IMAGE…", "print everything known about containers and images, as JSON",
       inspect_command, true},
      {"exec", "[flags] CONTAINER COMMAND [ARG…]", "run a command in a running container", exec_command, true},
      {"stop", "[flags] CONTAINER…", "stop containers: their stop signal first, then SIGKILL", stop_command, true},
      {"kill", "[flags] CONTAINER…", "send a signal to containers", kill_command, true},
      {"wait", "CONTAINER", "wait until a container has ended, and print its exit code", wait_command, true},
      {"rm", "[flags] CONTAINER…", "remove containers and everything that belongs to them", rm_command, true},
      {"rename", "CONTAINER NAME", "give a container of the command line another name", rename_command, true},
      {"port", "CONTAINER [PORT[/PROTO]]", "list the published ports of a container", port_command, true},
      {"network", "[flags] ls | inspect NAME…", "list the networks of this node, and show what they are",
       network_command},
      {"pull", "[flags] IMAGE", "fetch and unpack an image", pull_command},
      {"images", "[flags]", "list the images of this node", images_command, true},
      {"load", "[flags] [IMAGE]", "take images from an archive or an OCI layout", load_command},
      {"rmi", "IMAGE…", "remove images that no container uses", rmi_command, true},
      {"gc", "[flags]", "remove unused images, and what interrupted pulls left behind", gc_command, true},
      {"fsck", "[flags]", "verify the image store, and repair it", fsck_command, true},
      {"image", "ls | inspect | pull | load | save | tag | rm | prune …",
       "the verbs of images, as docker and podman group them", image_command},
      {"container", "ls | inspect | start | rm …", "the verbs of containers, likewise", container_command},
      {"schema", "[flags]", "print the option reference", schema_command},
      {"version", "[flags]", "print versions", version_command},
      {"help", "[COMMAND]", "show help for a command", help_command},
  };
}

}  // namespace

std::string usage_text() {
  std::vector<std::vector<std::string>> rows;
  for (const Verb& verb : verbs()) rows.push_back({"  " + verb.name, verb.summary});
  Globals globals;
  Flags flags;
  globals.declare(flags);
  return str(
      "containerd-driver runs OCI containers for Nomad. The Nomad agent starts it as a plugin; started by hand it is "
      "this "
      "command line.\n\nusage: containerd-driver [flags] COMMAND …\n\ncommands:\n",
      table(rows), "\nflags of every command:\n", flags.help(),
      "\n`containerd-driver help COMMAND` shows its flags. To use it as a plugin, put it into the agent's plugin_dir "
      "and "
      "write\n`plugin \"containerd-driver\" {}` into the agent's configuration.\n");
}

namespace {

const Verb* find_verb(const std::string& name) {
  for (const Verb& verb : verbs()) {
    if (verb.name == name) return &verb;
  }
  return nullptr;
}

int unknown_verb(Io& io, const std::string& name) {
  std::vector<std::string> names;
  for (const Verb& verb : verbs()) names.push_back(verb.name);
  const std::string guess = nearest(name, names);
  return fail(io,
              base::Error::invalid_argument(str(
                  "unknown command \"", name, "\"",
                  guess.empty() ? std::string(": see containerd-driver help") : str(", did you mean ", guess, "?"))),
              kExitMisuse);
}

}  // namespace
}  // namespace cli
