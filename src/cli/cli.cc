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

std::string usage_text() {
  std::vector<std::vector<std::string>> rows;
  for (const Verb& verb : verbs()) rows.push_back({str("  ", verb.name), std::string(verb.summary)});
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
  for (const Verb& verb : verbs()) names.emplace_back(verb.name);
  const std::string guess = nearest(name, names);
  return fail(io,
              base::Error::invalid_argument(str(
                  "unknown command \"", name, "\"",
                  guess.empty() ? std::string(": see containerd-driver help") : str(", did you mean ", guess, "?"))),
              kExitMisuse);
}

}  // namespace
}  // namespace cli
