#include "cli/flags.h"

#include <algorithm>
#include <numeric>
#include <optional>

namespace cli {

using base::Error;
using base::Result;
using base::str;

namespace {

std::optional<bool> read_bool(std::string_view text);
Error no_value(const std::string& given, const std::string& value_name);
std::size_t edit_distance(std::string_view a, std::string_view b);

}  // namespace

void Flags::toggle(std::string name, char letter, std::string help, bool& into) {
  flags_.push_back({std::move(name), letter, "", std::move(help), [&into](const std::string& value) -> base::Status {
                      const auto read = read_bool(value);
                      if (!read) return Error::invalid_argument(str("\"", value, "\" is neither true nor false"));
                      into = *read;
                      return {};
                    }});
}

void Flags::value(std::string name, char letter, std::string value_name, std::string help, std::string& into) {
  flags_.push_back(
      {std::move(name), letter, std::move(value_name), std::move(help), [&into](std::string value) -> base::Status {
         into = std::move(value);
         return {};
       }});
}

void Flags::list(std::string name, char letter, std::string value_name, std::string help,
                 std::vector<std::string>& into) {
  flags_.push_back(
      {std::move(name), letter, std::move(value_name), std::move(help), [&into](std::string value) -> base::Status {
         into.push_back(std::move(value));
         return {};
       }});
}

Result<std::vector<std::string>> Flags::parse(const std::vector<std::string>& args, Stop stop) const {
  std::vector<std::string> rest;
  for (auto at = args.begin(); at != args.end(); ++at) {
    const bool is_flag = at->size() > 1 && at->front() == '-';
    if (*at == "--" || (!is_flag && stop == Stop::kAtFirstArgument)) {
      rest.insert(rest.end(), *at == "--" ? at + 1 : at, args.end());
      break;
    }
    if (is_flag) {
      TRY_VOID(at->starts_with("--") ? take_long(at, args.end()) : take_letters(at, args.end()));
    } else {
      rest.push_back(*at);
    }
  }
  return rest;
}

base::Status Flags::take_long(Position& at, Position end) const {
  const std::size_t equals = at->find('=');
  const std::string given = at->substr(0, equals);
  const Flag* flag = find(std::string_view(given).substr(2));
  if (flag == nullptr) return unknown(given);
  std::string value;
  if (equals != std::string::npos) {
    value = at->substr(equals + 1);
  } else if (!flag->value_name.empty()) {
    if (at + 1 == end) return no_value(given, flag->value_name);
    value = *++at;
  }
  auto applied = flag->apply(std::move(value));
  return applied ? base::Status() : std::move(applied).error().wrap(str("flag ", given));
}

// "-it", "-i=false", "-uroot", "-u=root", "-u root", "-iu root"
base::Status Flags::take_letters(Position& at, Position end) const {
  const std::string letters = *at;
  for (std::size_t i = 1; i < letters.size(); ++i) {
    const std::string given = str("-", letters.substr(i, 1));
    const Flag* flag = find_letter(letters[i]);
    if (flag == nullptr) return unknown(letters.size() == 2 ? given : str(given, " in ", letters));
    const bool has_equals = i + 1 < letters.size() && letters[i + 1] == '=';
    const bool is_toggle = flag->value_name.empty();
    std::string value;
    if (!is_toggle || has_equals) {
      value = letters.substr(i + (has_equals ? 2 : 1));
      if (value.empty() && !has_equals) {
        if (at + 1 == end) return no_value(given, flag->value_name);
        value = *++at;
      }
      i = letters.size();
    }
    if (auto applied = flag->apply(std::move(value)); !applied) {
      return std::move(applied).error().wrap(str("flag ", given));
    }
  }
  return {};
}

std::vector<Flags::Description> Flags::describe() const {
  std::vector<Description> out;
  for (const Flag& flag : flags_) out.push_back({flag.name, flag.letter, flag.value_name, flag.help});
  return out;
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

// "" is a toggle that merely stands there.
std::optional<bool> read_bool(std::string_view text) {
  for (const std::string_view word : {"", "true", "True", "TRUE", "t", "T", "1"}) {
    if (text == word) return true;
  }
  for (const std::string_view word : {"false", "False", "FALSE", "f", "F", "0"}) {
    if (text == word) return false;
  }
  return std::nullopt;
}

Error no_value(const std::string& given, const std::string& value_name) {
  return Error::invalid_argument(str("flag ", given, " needs a value: ", given, " ", value_name));
}

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
