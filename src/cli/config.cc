// config explain: the reference of options (docs/options.md), one at a time.
#include "driver/options/config.h"

#include "base/json.h"
#include "base/text.h"
#include "cli/verb.h"

namespace cli {

using base::Error;
using base::Json;
using base::str;

namespace {

struct Explained {
  std::string name;  // "plugin.image_gc.keep"
  Json option;
};

std::vector<Explained> options_named(const std::string& wanted);
void collect_options(const Json& options, const std::string& above, std::vector<Explained>& out);
bool is_named(const std::string& name, const std::string& wanted);
std::string nearest_option(const std::string& wanted);
void print_option(Io& io, const Explained& found);

}  // namespace

int config_command(const Verb& self, Call& call) {
  Flags flags;
  std::string output;
  flags.value("output", 'o', "json", "print JSON", output);
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (auto valid = check_output_format(output); !valid) return misuse(self, call.io, valid.error());
  if (args->size() != 2 || args->front() != "explain") {
    return misuse(self, call.io, Error::invalid_argument("name one option: config explain image_gc.keep"));
  }
  const std::vector<Explained> found = options_named(args->back());
  if (found.empty()) {
    const std::string guess = nearest_option(args->back());
    return misuse(self, call.io,
                  Error::invalid_argument(str("there is no option \"", args->back(), "\"",
                                              guess.empty() ? "" : str(", did you mean ", guess, "?"))));
  }
  if (output == "json") {
    Json all = Json::array();
    for (const Explained& one : found) {
      all.push_back(one.option);
      all.back()["path"] = one.name;
    }
    print_json(call.io, all);
    return kExitOk;
  }
  for (const Explained& one : found) print_option(call.io, one);
  return kExitOk;
}

namespace {

std::vector<Explained> all_options() {
  std::vector<Explained> all;
  const Json document = driver::options_json();
  for (const auto& [where, options] : document.items()) collect_options(options, where, all);
  return all;
}

std::vector<Explained> options_named(const std::string& wanted) {
  std::vector<Explained> all = all_options();
  std::erase_if(all, [&](const Explained& one) { return !is_named(one.name, wanted); });
  return all;
}

void collect_options(const Json& options, const std::string& above, std::vector<Explained>& out) {
  for (const Json& option : options) {
    const std::string name = str(above, ".", option.value("name", ""));
    out.push_back({name, option});
    if (option.contains("fields")) collect_options(option["fields"], name, out);
  }
}

// By its whole name or the end of it: "plugin.image_gc.keep", "image_gc.keep", "keep".
bool is_named(const std::string& name, const std::string& wanted) {
  return name == wanted || name.ends_with("." + wanted);
}

std::string nearest_option(const std::string& wanted) {
  std::vector<std::string> names;
  for (const Explained& one : all_options()) names.push_back(one.name.substr(one.name.rfind('.') + 1));
  return nearest(wanted, names);
}

void print_option(Io& io, const Explained& found) {
  const Json& option = found.option;
  print_line(io,
             str(found.name, " (", option.value("type", ""), option.value("required", false) ? ", required" : "", ")"));
  print_text(io, str("  ", option.value("text", ""), "\n"));
  if (const std::string text = option.value("default", ""); !text.empty())
    print_text(io, str("  default: ", text, "\n"));
  const std::string example = option.value("example", "");
  const bool is_block = option.contains("fields");
  if (!example.empty() && !is_block) print_text(io, str("  example: ", option.value("name", ""), " = ", example, "\n"));
  if (is_block) {
    std::string text = str("  example: ", option.value("name", ""), " {\n");
    for (const std::string_view line : base::split(example, '\n')) text += str("    ", line, "\n");
    print_text(io, text + "  }\n");
  }
}

}  // namespace
}  // namespace cli
