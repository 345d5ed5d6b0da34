// The long forms that docker and podman have of some verbs: image ls, container inspect.
#include <algorithm>
#include <array>

#include "cli/verb.h"

namespace cli {

using base::Error;
using base::str;

namespace {

struct LongForm {
  std::string_view word;
  std::string_view verb;
};
constexpr std::array<LongForm, 12> kOfImage = {{{"ls", "images"},
                                                {"list", "images"},
                                                {"rm", "rmi"},
                                                {"inspect", "inspect"},
                                                {"pull", "pull"},
                                                {"load", "load"},
                                                {"save", "save"},
                                                {"tag", "tag"},
                                                {"untag", "untag"},
                                                {"history", "history"},
                                                {"pin", "pin"},
                                                {"unpin", "unpin"}}};
/// Those that are called as their short form is.
constexpr std::array<std::string_view, 23> kSameOfContainer = {
    "run",   "create", "start", "stop", "restart", "kill", "wait", "pause",  "unpause", "logs",   "attach", "exec",
    "debug", "cp",     "ps",    "top",  "stats",   "port", "diff", "export", "update",  "rename", "rm"};
constexpr std::array<LongForm, 1> kOfSystem = {{{"df", "df"}}};
constexpr std::array<LongForm, 3> kOfContainer = {{{"ls", "ps"}, {"list", "ps"}, {"inspect", "inspect"}}};

int run_long_form(const Verb& self, Call& call, std::string_view verb);
int no_long_form(const Verb& self, Call& call);

}  // namespace

std::vector<std::string> words_of(const Verb& verb) {
  std::vector<std::string> words;
  if (verb.name == "image") {
    for (const LongForm& form : kOfImage) words.emplace_back(form.word);
    words.emplace_back("prune");
  } else if (verb.name == "container") {
    for (const LongForm& form : kOfContainer) words.emplace_back(form.word);
    words.insert(words.end(), kSameOfContainer.begin(), kSameOfContainer.end());
  } else if (verb.name == "system") {
    for (const LongForm& form : kOfSystem) words.emplace_back(form.word);
  } else if (verb.name == "config") {
    words = {"explain"};
  } else if (verb.name == "network") {
    words = {"ls", "inspect"};
  } else if (verb.name == "completion") {
    words = {"bash", "zsh", "fish"};
  }
  return words;
}

int image_command(const Verb& self, Call& call) {
  const std::string word = call.args.empty() ? "" : call.args.front();
  // There is no short form of it.
  static const Verb prune{
      "image prune",       "[flags]", "remove what belongs to no image, or all images that no container uses",
      image_prune_command, true,      {"image prune", "image prune --all --force"}};
  if (word == "prune") {
    call.args.erase(call.args.begin());
    return prune.run(prune, call);
  }
  const auto it =
      std::find_if(kOfImage.begin(), kOfImage.end(), [&](const LongForm& form) { return form.word == word; });
  return it == kOfImage.end() ? no_long_form(self, call) : run_long_form(self, call, it->verb);
}

int container_command(const Verb& self, Call& call) {
  const std::string word = call.args.empty() ? "" : call.args.front();
  const auto it =
      std::find_if(kOfContainer.begin(), kOfContainer.end(), [&](const LongForm& form) { return form.word == word; });
  if (it != kOfContainer.end()) return run_long_form(self, call, it->verb);
  const bool same = std::find(kSameOfContainer.begin(), kSameOfContainer.end(), word) != kSameOfContainer.end();
  return same ? run_long_form(self, call, word) : no_long_form(self, call);
}

int system_command(const Verb& self, Call& call) {
  const std::string word = call.args.empty() ? "" : call.args.front();
  return word == kOfSystem.front().word ? run_long_form(self, call, word) : no_long_form(self, call);
}

namespace {

int run_long_form(const Verb& self, Call& call, std::string_view verb) {
  const auto it = std::find_if(verbs().begin(), verbs().end(), [&](const Verb& one) { return one.name == verb; });
  if (it == verbs().end()) return no_long_form(self, call);
  call.args.erase(call.args.begin());
  if (verb == "inspect") call.args.insert(call.args.begin(), {"--type", std::string(self.name)});
  return it->run(*it, call);
}

int no_long_form(const Verb& self, Call& call) {
  Flags flags;
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kAtFirstArgument, exit_code);
  if (!args) return exit_code;
  if (args->empty()) return misuse(self, call.io, Error::invalid_argument(str("name a command of ", self.name)));
  return misuse(self, call.io, Error::invalid_argument(str("unknown command \"", self.name, " ", args->front(), "\"")));
}

}  // namespace
}  // namespace cli
