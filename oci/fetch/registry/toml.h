// TOML, as far as configuration of hosts needs it: tables in the order of the file, and the line of each value. Pure.
//
// All of TOML 1.0 but arrays of tables, which are refused; numbers and dates are told apart from texts and booleans,
// and not interpreted. (The libraries that Debian has were tried with the fuzz target first: on wrong input one asserts
// and then runs into undefined behaviour, and both lose the order of keys.) spec: toml.io/en/v1.0.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace oci::fetch {

constexpr std::size_t kTomlMembersMax = 1000;  ///< of a table
constexpr int kTomlDepthMax = 16;              ///< of arrays and tables in each other, and of a key's parts

struct TomlValue {
  enum class Kind { kText, kBool, kOther, kList, kTable };
  Kind kind = Kind::kTable;
  int line = 1;
  std::string text;  ///< of a text; UTF-8 as it came
  bool flag = false;
  std::vector<TomlValue> items;  ///< of a list
  struct Member;
  std::vector<Member> members;  ///< of a table, in the file's order

  /// Whether other parts of the file may still add members: a table that was not written as { … }, and no [header] of
  /// its own yet. Of no use after parsing.
  bool open = true;
  bool has_header = false;

  const TomlValue* find(std::string_view key) const;
};

struct TomlValue::Member {
  std::string key;
  TomlValue value;
};

/// The table of a whole document. The caller limits its size.
///   errors  kInvalidArgument "line N: …", which shows no value
base::Result<TomlValue> parse_toml(std::string_view text);

}  // namespace oci::fetch
