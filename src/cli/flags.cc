#include "cli/flags.h"

#include <algorithm>
#include <numeric>

namespace cli {

using base::Error;
using base::Result;
using base::str;

namespace {

std::size_t edit_distance(std::string_view a, std::string_view b);

}  // namespace

void Flags::toggle(std::string name, char letter, std::string help, bool& into) {
  flags_.push_back({std::move(name), letter, "", std::move(help), [&into](const std::string&) { into = true; }});
}

void Flags::value(std::string name, char letter, std::string value_name, std::string help, std::string& into) {
  flags_.push_back({std::move(name), letter, std::move(value_name), std::move(help),
                    [&into](std::string value) { into = std::move(value); }});
}

void Flags::list(std::string name, char letter, std::string value_name, std::string help,
                 std::vector<std::string>& into) {
  flags_.push_back({std::move(name), letter, std::move(value_name), std::move(help),
                    [&into](std::string value) { into.push_back(std::move(value)); }});
}

Result<std::vector<std::string>> Flags::parse(const std::vector<std::string>& args, Stop stop) const {
  std::vector<std::string> rest;
  for (std::size_t i = 0; i < args.size(); ++i) {
    const std::string& arg = args[i];
    const bool is_flag = arg.size() > 1 && arg.front() == '-';
    if (arg == "--" || (!is_flag && stop == Stop::kAtFirstArgument)) {
      rest.insert(rest.end(), args.begin() + static_cast<std::ptrdiff_t>(arg == "--" ? i + 1 : i), args.end());
      break;
    }
    if (!is_flag) {
      rest.push_back(arg);
      continue;
    }
    const bool is_long = arg.starts_with("--");
    const std::size_t equals = arg.find('=');
    const std::string given = arg.substr(0, equals);
    const Flag* flag = is_long             ? find(std::string_view(given).substr(2))
                       : given.size() == 2 ? find_letter(given[1])
                                           : nullptr;
    if (flag == nullptr) return unknown(given);
    const bool has_value = equals != std::string::npos;
    if (flag->value_name.empty()) {
      if (has_value)
        return Error::invalid_argument(str("flag ", given, " takes no value: leave out \"", arg.substr(equals), "\""));
      flag->apply("");
    } else if (has_value) {
      flag->apply(arg.substr(equals + 1));
    } else if (++i < args.size()) {
      flag->apply(args[i]);
    } else {
      return Error::invalid_argument(str("flag ", given, " needs a value: ", given, " ", flag->value_name));
    }
  }
  return rest;
}

std::string Flags::help() const {
  std::vector<std::string> left;
  std::size_t width = 0;
  for (const Flag& flag : flags_) {
    std::string text = flag.letter == 0 ? "      --" : str("  -", flag.letter, ", --");
    text += flag.name;
    if (!flag.value_name.empty()) text += " " + flag.value_name;
    width = std::max(width, text.size());
    left.push_back(std::move(text));
  }
  std::string out;
  for (std::size_t i = 0; i < flags_.size(); ++i) {
    out += left[i] + std::string(width + 2 - left[i].size(), ' ') + flags_[i].help + "\n";
  }
  return out;
}

std::string nearest(std::string_view given, const std::vector<std::string>& known) {
  constexpr std::size_t kDistanceMax = 2;
  std::string best;
  std::size_t best_distance = kDistanceMax + 1;
  for (const std::string& word : known) {
    const std::size_t distance = given.size() >= 3 && word.starts_with(given) ? 1 : edit_distance(given, word);
    if (distance < best_distance && distance < word.size()) {
      best = word;
      best_distance = distance;
    }
  }
  return best;
}

const Flags::Flag* Flags::find(std::string_view name) const {
  const auto it = std::find_if(flags_.begin(), flags_.end(), [&](const Flag& flag) { return flag.name == name; });
  return it == flags_.end() ? nullptr : &*it;
}

const Flags::Flag* Flags::find_letter(char letter) const {
  const auto it = std::find_if(flags_.begin(), flags_.end(), [&](const Flag& flag) { return flag.letter == letter; });
  return it == flags_.end() ? nullptr : &*it;
}

Error Flags::unknown(std::string_view given) const {
  std::vector<std::string> names;
  for (const Flag& flag : flags_) names.push_back(flag.name);
  const std::string guess = given.starts_with("--") ? nearest(given.substr(2), names) : "";
  return Error::invalid_argument(
      str("unknown flag ", given, guess.empty() ? std::string() : str(", did you mean --", guess, "?")));
}

namespace {

// Levenshtein, one row at a time.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

}  // namespace
}  // namespace cli
