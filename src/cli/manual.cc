// Manual pages, made from the table of verbs when the program is installed, so that they are never older than it.
#include "base/file.h"
#include "base/text.h"
#include "cli/verb.h"
#include "version.h"

namespace cli {

using base::str;

namespace {

std::string main_page();
std::string page_of(const Verb& verb);
std::string head_of(const std::string& name, std::string_view summary);
std::string options(const std::vector<Flags::Description>& flags);
std::string roff(std::string_view text);

constexpr char kExitTable[] =
    ".SH EXIT STATUS\n.TP\n.B 0\ndone\n.TP\n.B 1\nfailed: one line on standard error says why\n"
    ".TP\n.B 125\nwrong use of a command, or a command on a container or an image failed itself\n"
    ".TP\n.BR 126 \", \" 127\nthe command of \\fBrun\\fR or \\fBexec\\fR cannot be run; there is no such command\n"
    ".TP\n.B 128+n\nit was killed by signal n\n";

}  // namespace

int write_manual(const std::string& dir, Io& io) {
  const auto write = [&](const std::string& name, const std::string& text) {
    return base::write_file_atomic(str(dir, "/", name, ".1"), text, 0644, base::Durable::kNo);
  };
  if (auto written = write("containerd-driver", main_page()); !written) return fail(io, written.error());
  for (const Verb& verb : verbs()) {
    if (auto written = write(str("containerd-driver-", verb.name), page_of(verb)); !written) {
      return fail(io, written.error());
    }
  }
  return kExitOk;
}

namespace {

std::string main_page() {
  std::string out = head_of("containerd-driver", "run OCI containers for Nomad, and by hand");
  out +=
      ".SH SYNOPSIS\n.B containerd-driver\n[flags] \\fICOMMAND\\fR ...\n"
      ".SH DESCRIPTION\nThe Nomad agent starts it as a plugin; started by hand it is a command line over the same "
      "folders, beside a running plugin or without one.\n"
      ".SH COMMANDS\n";
  for (const Verb& verb : verbs()) {
    out += str(".TP\n.BR containerd\\-driver\\-", roff(verb.name), " (1)\n", roff(verb.summary), "\n");
  }
  out += str(".SH OPTIONS\n", options(global_flags()));
  out +=
      ".SH ENVIRONMENT\n.TP\n.B CONTAINERD_DRIVER_DATA_DIR\nas \\fB\\-\\-data\\-dir\\fR\n"
      ".TP\n.B CONTAINERD_DRIVER_STATE_DIR\nas \\fB\\-\\-state\\-dir\\fR\n"
      ".TP\n.B REGISTRY_AUTH_FILE\nas \\fB\\-\\-auth\\-config\\fR\n";
  return out + kExitTable;
}

std::string page_of(const Verb& verb) {
  const std::string name = str("containerd-driver-", verb.name);
  std::string out = head_of(name, verb.summary);
  out += str(".SH SYNOPSIS\n.B containerd\\-driver ", roff(verb.name), "\n", roff(verb.arguments), "\n");
  if (const auto words = words_of(verb); !words.empty()) {
    std::string all;
    for (const std::string& word : words) all += str(all.empty() ? "" : ", ", word);
    out += str(".SH COMMANDS\n", roff(all), "\n");
  }
  if (const auto flags = flags_of(verb); !flags.empty()) out += str(".SH OPTIONS\n", options(flags));
  if (!verb.examples.empty()) {
    out += ".SH EXAMPLES\n.nf\n";
    for (const std::string_view example : verb.examples) out += str("containerd\\-driver ", roff(example), "\n");
    out += ".fi\n";
  }
  return out + ".SH SEE ALSO\n.BR containerd\\-driver (1)\n";
}

std::string head_of(const std::string& name, std::string_view summary) {
  return str(".TH \"", base::ascii_upper(name), "\" \"1\" \"\" \"containerd\\-driver ", base::kVersion,
             "\" \"User Commands\"\n.SH NAME\n", roff(name), " \\- ", roff(summary), "\n");
}

std::string options(const std::vector<Flags::Description>& flags) {
  std::string out;
  for (const Flags::Description& flag : flags) {
    out += ".TP\n";
    if (flag.letter != 0) out += str("\\fB\\-", std::string(1, flag.letter), "\\fR, ");
    out += str("\\fB\\-\\-", roff(flag.name), "\\fR");
    if (!flag.value_name.empty()) out += str(" \\fI", roff(flag.value_name), "\\fR");
    out += str("\n", roff(flag.help), "\n");
  }
  return out;
}

// A line that begins with a dot or a quote would be a command; a bare hyphen would be a typographic one.
std::string roff(std::string_view text) {
  std::string out;
  if (text.starts_with('.') || text.starts_with('\'')) out += "\\&";
  for (const char c : text) {
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else if (c == '\'') {
      out += "\\(aq";
    } else if (c == '`') {
      out += "\\(ga";
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace
}  // namespace cli
