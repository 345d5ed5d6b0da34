// Scripts for shells, made from the table of verbs. Names of containers and images come from this program when they are
// asked for, never from a list in the script.
#include "cli/verb.h"

namespace cli {

using base::Error;
using base::str;

namespace {

enum class Names { kNone, kContainers, kImages, kBoth };

std::string bash_script();
std::string zsh_script();
std::string fish_script();
Names names_for(const Verb& verb);
std::string words_for(const Verb& verb);
std::string flag_words(const std::vector<Flags::Description>& flags, bool with_value);
std::string shell_quoted(std::string_view text);

constexpr char kContainersCall[] = "containerd-driver ps --all --format '{{.Names}}' 2>/dev/null";
constexpr char kImagesCall[] = "containerd-driver images --format '{{.Reference}}' 2>/dev/null";

}  // namespace

int completion_command(const Verb& self, Call& call) {
  Flags flags;
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  const std::string shell = args->size() == 1 ? args->front() : "";
  if (shell != "bash" && shell != "zsh" && shell != "fish") {
    return misuse(self, call.io, Error::invalid_argument("name one shell: bash, zsh or fish"));
  }
  print_own(call.io, shell == "bash" ? bash_script() : shell == "zsh" ? zsh_script() : fish_script());
  return kExitOk;
}

namespace {

constexpr char kBashHead[] = R"sh(# bash completion of containerd-driver; made by `containerd-driver completion bash`.
_containerd_driver() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} verb= i flags= values= words= names= name
  COMPREPLY=()
)sh";
constexpr char kBashVerb[] = R"sh(  for ((i = 1; i < COMP_CWORD; ++i)); do
    case ${COMP_WORDS[i]} in
      -*=*) ;;
      -*) [[ " $global_values " == *" ${COMP_WORDS[i]} "* ]] && ((++i)) ;;
      *) verb=${COMP_WORDS[i]}; break ;;
    esac
  done
  case $verb in
)sh";
// Names are text, whatever is in them: compgen -W would run them as parts of a command line.
constexpr char kBashTail[] = R"sh(  esac
  if [[ " $global_values $values " == *" $before "* ]]; then
    _containerd_driver_files "$word"
  elif [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "$global_flags $global_values $flags $values" -- "$word"))
  elif [[ -z $verb ]]; then
    COMPREPLY=($(compgen -W "$verbs" -- "$word"))
  else
    COMPREPLY=($(compgen -W "$words" -- "$word"))
    while IFS= read -r name; do
      [[ -n $name && $name == "$word"* ]] && COMPREPLY+=("$(printf %q "$name")")
    done < <(
      [[ $names == *containers* ]] && @CONTAINERS@
      [[ $names == *images* ]] && @IMAGES@
    )
    ((${#COMPREPLY[@]})) || _containerd_driver_files "$word"
  fi
  type __ltrim_colon_completions &> /dev/null && __ltrim_colon_completions "$word"
  return 0
}
_containerd_driver_files() {
  compopt -o filenames 2> /dev/null # they are quoted where they are put in
  mapfile -t COMPREPLY < <(compgen -f -- "$1")
}
complete -F _containerd_driver containerd-driver
)sh";

std::string replaced(std::string text, std::string_view mark, std::string_view by) {
  text.replace(text.find(mark), mark.size(), by);
  return text;
}

std::string bash_script() {
  std::string names;
  for (const Verb& verb : verbs()) names += str(names.empty() ? "" : " ", verb.name);
  std::string out = str(kBashHead, "  local verbs=", shell_quoted(names),
                        "\n  local global_flags=", shell_quoted(flag_words(global_flags(), false)),
                        "\n  local global_values=", shell_quoted(flag_words(global_flags(), true)), "\n", kBashVerb);
  for (const Verb& verb : verbs()) {
    const auto flags = flags_of(verb);
    const Names wanted = names_for(verb);
    out += str("    ", verb.name, ")\n      flags=", shell_quoted(flag_words(flags, false)),
               " values=", shell_quoted(flag_words(flags, true)), " words=", shell_quoted(words_for(verb)), " names=",
               wanted == Names::kContainers ? "containers"
               : wanted == Names::kImages   ? "images"
               : wanted == Names::kBoth     ? "containers,images"
                                            : "",
               " ;;\n");
  }
  return out + replaced(replaced(kBashTail, "@CONTAINERS@", kContainersCall), "@IMAGES@", kImagesCall);
}

// In a specification of _arguments brackets and colons have a meaning.
std::string zsh_text(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '[' || c == ']' || c == ':' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

std::string zsh_flags(const std::vector<Flags::Description>& flags) {
  std::string out;
  for (const Flags::Description& flag : flags) {
    const std::string rest = str("[", zsh_text(flag.help), "]",
                                 flag.value_name.empty() ? "" : str(":", zsh_text(flag.value_name), ":_files"));
    out += str(" \\\n        ", shell_quoted(str("*--", flag.name, flag.value_name.empty() ? "" : "=", rest)));
    if (flag.letter != 0) {
      const char letter[] = {'-', flag.letter, '\0'};
      out += str(" \\\n        ", shell_quoted(str("*", letter, rest)));
    }
  }
  return out;
}

std::string zsh_script() {
  std::string out = str("#compdef containerd-driver\n# made by `containerd-driver completion zsh`\n",
                        "_containerd_driver_containers() { compadd -- ${(f)\"$(", kContainersCall, ")\"} }\n",
                        "_containerd_driver_images() { compadd -- ${(f)\"$(", kImagesCall, ")\"} }\n",
                        "_containerd_driver_both() { _containerd_driver_containers; _containerd_driver_images }\n",
                        "_containerd_driver() {\n  local curcontext=$curcontext state line\n  typeset -A opt_args\n",
                        "  local -a verbs=(\n");
  for (const Verb& verb : verbs())
    out += str("    ", shell_quoted(str(zsh_text(verb.name), ":", zsh_text(verb.summary))), "\n");
  out += str("  )\n  _arguments -C", zsh_flags(global_flags()),
             " \\\n        '1:command:->verb' '*::argument:->rest'\n"
             "  case $state in\n    verb) _describe command verbs ;;\n    rest)\n      case $words[1] in\n");
  for (const Verb& verb : verbs()) {
    const Names names = names_for(verb);
    const std::string words = words_for(verb);
    const std::string then = !words.empty()                ? str("1:command:(", words, ")")
                             : names == Names::kContainers ? "*:container:_containerd_driver_containers"
                             : names == Names::kImages     ? "*:image:_containerd_driver_images"
                             : names == Names::kBoth       ? "*:name:_containerd_driver_both"
                                                           : "*:argument:_files";
    out += str("      ", verb.name, ") _arguments", zsh_flags(flags_of(verb)), zsh_flags(global_flags()),
               " \\\n        ", shell_quoted(then), " ;;\n");
  }
  return out + "      esac ;;\n  esac\n}\n_containerd_driver \"$@\"\n";
}

std::string fish_flags(const std::vector<Flags::Description>& flags, const std::string& condition) {
  std::string out;
  for (const Flags::Description& flag : flags) {
    const char letter[] = {' ', '-', 's', ' ', flag.letter, '\0'};
    out += str("complete -c containerd-driver", condition, flag.letter == 0 ? "" : letter, " -l ", flag.name,
               flag.value_name.empty() ? "" : " -r", " -d ", shell_quoted(flag.help), "\n");
  }
  return out;
}

std::string fish_script() {
  std::string out = "# made by `containerd-driver completion fish`\ncomplete -c containerd-driver -f\n";
  out += fish_flags(global_flags(), "");
  for (const Verb& verb : verbs()) {
    out += str("complete -c containerd-driver -n __fish_use_subcommand -a ", verb.name, " -d ",
               shell_quoted(verb.summary), "\n");
    const std::string seen = str(" -n ", shell_quoted(str("__fish_seen_subcommand_from ", verb.name)));
    const Names names = names_for(verb);
    const std::string add = str("complete -c containerd-driver", seen, " -a ");
    if (const std::string words = words_for(verb); !words.empty()) out += str(add, shell_quoted(words), "\n");
    if (names == Names::kContainers || names == Names::kBoth)
      out += str(add, shell_quoted(str("(", kContainersCall, ")")), "\n");
    if (names == Names::kImages || names == Names::kBoth)
      out += str(add, shell_quoted(str("(", kImagesCall, ")")), "\n");
    if (names == Names::kNone) out += str("complete -c containerd-driver", seen, " -F\n");
    out += fish_flags(flags_of(verb), seen);
  }
  return out;
}

Names names_for(const Verb& verb) {
  const bool containers = verb.arguments.find("CONTAINER") != std::string::npos;
  const bool images = verb.arguments.find("IMAGE") != std::string::npos;
  if (containers && images) return Names::kBoth;
  return containers ? Names::kContainers : images ? Names::kImages : Names::kNone;
}

std::string words_for(const Verb& verb) {
  std::string out;
  if (verb.name == "help") {
    for (const Verb& other : verbs()) out += str(out.empty() ? "" : " ", other.name);
  }
  for (const std::string& word : words_of(verb)) out += str(out.empty() ? "" : " ", word);
  return out;
}

std::string flag_words(const std::vector<Flags::Description>& flags, bool with_value) {
  std::string out;
  for (const Flags::Description& flag : flags) {
    if (flag.value_name.empty() == with_value) continue;
    if (!out.empty()) out += ' ';
    out += str("--", flag.name);
    if (flag.letter != 0) out += str(" -", std::string(1, flag.letter));
  }
  return out;
}

// For all three shells: single quotes, and one of them as '"'"'.
std::string shell_quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'') {
      out += "'\"'\"'";
    } else {
      out += c;
    }
  }
  return out + "'";
}

}  // namespace
}  // namespace cli
