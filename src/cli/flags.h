// Command-line flags of one verb: declared once, parsed, and printed as help.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace cli {

/// threads  none: built and used on the spot; the variables it fills outlive it
class Flags {
 public:
  /// --name, or --name=true|false.
  void toggle(std::string name, char letter, std::string help, bool& into);
  /// --name VALUE or --name=VALUE, -n VALUE or -nVALUE; the last one wins. Letters may be bundled: -it, -ie VALUE.
  void value(std::string name, char letter, std::string value_name, std::string help, std::string& into);
  /// The same, may be repeated.
  void list(std::string name, char letter, std::string value_name, std::string help, std::vector<std::string>& into);

  enum class Stop {
    kNever,            ///< flags may stand anywhere; "--" ends them
    kAtFirstArgument,  ///< what follows the first argument belongs to somebody else
  };
  /// Returns what is no flag.
  ///   errors  kInvalidArgument: unknown flag (with the nearest known one), value missing, neither true nor false
  base::Result<std::vector<std::string>> parse(const std::vector<std::string>& args, Stop stop) const;

  /// What a flag is for those who read it: manual pages and the completion of shells.
  struct Description {
    std::string name;
    char letter = 0;         ///< 0 = none
    std::string value_name;  ///< "" = a toggle
    std::string help;
  };
  std::vector<Description> describe() const;

  /// One line per flag, aligned.
  std::string help() const;

 private:
  struct Flag {
    std::string name;
    char letter;             // 0 = none
    std::string value_name;  // "" = a toggle
    std::string help;
    std::function<base::Status(std::string)> apply;  // a toggle's "" is true
  };
  using Position = std::vector<std::string>::const_iterator;
  base::Status take_long(Position& at, Position end) const;
  base::Status take_letters(Position& at, Position end) const;
  const Flag* find(std::string_view name) const;
  const Flag* find_letter(char letter) const;
  base::Error unknown(std::string_view given) const;

  std::vector<Flag> flags_;
};

/// The known word that `given` was probably meant to be, "" if none is near.
std::string nearest(std::string_view given, const std::vector<std::string>& known);

}  // namespace cli
