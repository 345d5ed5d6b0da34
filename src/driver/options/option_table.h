// The machinery behind the one option table (config.cc): what a row is, and how a row becomes schema, decoder and text.
// A row is written once:
//
//   text("cwd", &TaskOptions::cwd, {.example = "\"/srv\"", .text = "Working directory.", .check = check_absolute}),
//
// Its default is the member's initialiser in values/options.h.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "driver/options/config.h"
#include "driver/values/words.h"

namespace driver {

/// What a reader of the documentation needs to know about an option.
struct OptionDoc {
  std::string name;
  std::vector<std::string> aliases;
  std::string hcl_type;    ///< "string", "list(string)", …; "" for blocks
  std::string shown_type;  ///< "duration", "block", … for people
  bool required = false;
  std::string default_literal;  ///< HCL expression, "" = none
  std::string example;          ///< HCL, the right-hand side or the block's body
  std::string text;
  std::vector<OptionDoc> fields;  ///< of a block
  bool repeated = false;          ///< the block may appear several times
};

/// Checks one string; `where` is the option's name as the error shall show it.
using Check = base::Status (*)(const std::string& where, const std::string& value);

/// Checks a whole block after its fields.
template <typename Block>
using BlockCheck = base::Status (*)(const std::string& where, const Block& value);

/// The rest of a row.
struct RowText {
  const char* example = "";
  const char* text = "";
  std::vector<std::string> aliases = {};
  bool required = false;
  bool secret = false;  ///< the value never appears in a message
  Check check = nullptr;
};

template <typename T>
struct Option {
  OptionDoc doc;
  /// Decodes a value that is neither missing nor nil into `out`.
  std::function<base::Status(T& out, const base::Json& value, const std::string& where)> store;
};

template <typename T>
using OptionTable = std::vector<Option<T>>;

/// One table of several parts.
template <typename T>
OptionTable<T> joined(std::vector<OptionTable<T>> parts) {
  OptionTable<T> all;
  for (OptionTable<T>& part : parts) std::move(part.begin(), part.end(), std::back_inserter(all));
  return all;
}

// Decoders of single values; errors name `where` and the value.
base::Result<std::string> decode_text(const base::Json& value, const std::string& where, const RowText& row);
base::Result<bool> decode_bool(const base::Json& value, const std::string& where);
base::Result<std::int64_t> decode_number(const base::Json& value, const std::string& where, std::int64_t least,
                                         std::int64_t most);
base::Result<std::chrono::milliseconds> decode_duration(const base::Json& value, const std::string& where,
                                                        std::chrono::milliseconds least);
base::Result<std::vector<std::string>> decode_list(const base::Json& value, const std::string& where,
                                                   const RowText& row);
/// An object, or a list of objects of which later ones win.
base::Result<std::map<std::string, std::string>> decode_map(const base::Json& value, const std::string& where,
                                                            const RowText& row);
/// An object, or a list of objects merged into one: what blocks look like depends on who encoded them.
base::Result<base::Json> decode_block(const base::Json& value, const std::string& where);
/// A list of objects, or one object.
base::Result<std::vector<base::Json>> decode_blocks(const base::Json& value, const std::string& where);

/// Nothing in it but nil and "": how Go programs send a block that was not written.
bool is_blank(const base::Json& object);
/// nil, false, 0, "", an empty list, or blocks with nothing but these: whatever an option is for, this leaves it.
bool asks_for_nothing(const base::Json& value);

/// Text as parse_size takes it, or a number of bytes.
base::Result<std::uint64_t> decode_size(const base::Json& value, const std::string& where);

/// The value of `doc`'s option in `object`: by its name or an alias, null when absent.
///   errors  kInvalidArgument when two of its names have different values
base::Result<const base::Json*> find_value(const base::Json& object, const OptionDoc& doc, const std::string& prefix);

inline OptionDoc make_doc(const char* name, const char* hcl_type, const char* shown_type, std::string default_literal,
                          const RowText& row) {
  return {name,        row.aliases, hcl_type, shown_type, row.required, std::move(default_literal),
          row.example, row.text,    {},       false};
}

// One function per type of option. T is the struct, `member` the field it lands in.

template <typename T>
Option<T> text(const char* name, std::string T::*member, RowText row) {
  const std::string fallback = T{}.*member;
  return {make_doc(name, "string", "string", fallback.empty() ? "" : hcl_quote(fallback), row),
          [=](T& out, const base::Json& value, const std::string& where) -> base::Status {
            TRY(out.*member, decode_text(value, where, row));
            return {};
          }};
}

template <typename T>
Option<T> boolean(const char* name, bool T::*member, RowText row) {
  return {make_doc(name, "bool", "bool", T{}.*member ? "true" : "false", row),
          [=](T& out, const base::Json& value, const std::string& where) -> base::Status {
            TRY(out.*member, decode_bool(value, where));
            return {};
          }};
}

template <typename T>
Option<T> boolean(const char* name, std::optional<bool> T::*member, RowText row) {
  return {make_doc(name, "bool", "bool", "", row),
          [=](T& out, const base::Json& value, const std::string& where) -> base::Status {
            TRY(out.*member, decode_bool(value, where));
            return {};
          }};
}

template <typename T>
Option<T> number(const char* name, std::int64_t T::*member, std::int64_t least, std::int64_t most, RowText row) {
  return {make_doc(name, "number", "number", std::to_string(T{}.*member), row),
          [=](T& out, const base::Json& value, const std::string& where) -> base::Status {
            TRY(out.*member, decode_number(value, where, least, most));
            return {};
          }};
}

template <typename T>
Option<T> number(const char* name, std::optional<std::int64_t> T::*member, std::int64_t least, std::int64_t most,
                 RowText row) {
  return {make_doc(name, "number", "number", "", row),
          [=](T& out, const base::Json& value, const std::string& where) -> base::Status {
            TRY(out.*member, decode_number(value, where, least, most));
            return {};
          }};
}

/// A value of several shapes: HCL's `any`, decoded by `decode`.
template <typename T, typename Value>
Option<T> any(const char* name, const char* shown_type, Value T::*member,
              base::Result<Value> (*decode)(const base::Json& value, const std::string& where), RowText row) {
  return {make_doc(name, "any", shown_type, "", row),
          [=](T& out, const base::Json& value, const std::string& where) -> base::Status {
            TRY(out.*member, decode(value, where));
            return {};
          }};
}

/// An option of other drivers that has no meaning here: parsed, so that its name is known, and refused with words.
template <typename T>
Option<T> refused(const char* name, const char* hcl_type, RowText row) {
  return {make_doc(name, hcl_type, "refused", "", row),
          [=](T&, const base::Json& value, const std::string& where) -> base::Status {
            if (asks_for_nothing(value)) return {};
            return base::Error::invalid_argument(base::str(where, " is not supported: ", row.text));
          }};
}

/// An option of other drivers that a job can do without: taken, whatever its value is, and noted.
template <typename T>
Option<T> without_effect(const char* name, const char* hcl_type, RowText row) {
  return {make_doc(name, hcl_type, "no effect", "", row),
          [=](T& out, const base::Json& value, const std::string& where) -> base::Status {
            if (!asks_for_nothing(value)) out.without_effect.push_back(where);
            return {};
          }};
}

/// "" keeps the default: Go programs send the zero value for what was not set.
template <typename T>
Option<T> duration(const char* name, std::chrono::milliseconds T::*member, std::chrono::milliseconds least,
                   RowText row) {
  return {make_doc(name, "string", "duration", hcl_quote(show_duration(T{}.*member)), row),
          [=](T& out, const base::Json& value, const std::string& where) -> base::Status {
            if (value == "") return {};
            TRY(out.*member, decode_duration(value, where, least));
            return {};
          }};
}

template <typename T>
Option<T> duration(const char* name, std::optional<std::chrono::milliseconds> T::*member,
                   std::chrono::milliseconds least, RowText row) {
  return {make_doc(name, "string", "duration", "", row),
          [=](T& out, const base::Json& value, const std::string& where) -> base::Status {
            if (value == "") return {};
            TRY(out.*member, decode_duration(value, where, least));
            return {};
          }};
}

/// A number of bytes, with a unit. "" keeps the default.
template <typename T>
Option<T> size(const char* name, std::uint64_t T::*member, RowText row) {
  const std::uint64_t fallback = T{}.*member;
  return {make_doc(name, "string", "size", fallback == 0 ? "" : hcl_quote(std::to_string(fallback)), row),
          [=](T& out, const base::Json& value, const std::string& where) -> base::Status {
            if (value == "") return {};
            TRY(out.*member, decode_size(value, where));
            return {};
          }};
}

/// One of a few words.
template <typename T, typename Enum>
Option<T> choice(const char* name, Enum T::*member, std::vector<std::pair<std::string, Enum>> words, RowText row) {
  return {make_doc(name, "string", "string", "", row),
          [=](T& out, const base::Json& value, const std::string& where) -> base::Status {
            TRY(const std::string text, decode_text(value, where, row));
            if (text.empty()) return {};
            std::string allowed;
            for (const auto& [word, meaning] : words) {
              if (word == text) {
                out.*member = meaning;
                return {};
              }
              allowed += base::str(allowed.empty() ? "" : ", ", word);
            }
            return base::Error::invalid_argument(
                base::str(where, " = ", show_value(text), " is not known: use one of ", allowed));
          }};
}

template <typename T>
Option<T> list(const char* name, std::vector<std::string> T::*member, RowText row) {
  return {make_doc(name, "list(string)", "list(string)", "", row),
          [=](T& out, const base::Json& value, const std::string& where) -> base::Status {
            TRY(out.*member, decode_list(value, where, row));
            return {};
          }};
}

/// An optional list that must not be empty when it is given.
template <typename T>
Option<T> list(const char* name, std::optional<std::vector<std::string>> T::*member, RowText row) {
  return {make_doc(name, "list(string)", "list(string)", "", row),
          [=](T& out, const base::Json& value, const std::string& where) -> base::Status {
            TRY(auto items, decode_list(value, where, row));
            if (items.empty()) {
              return base::Error::invalid_argument(
                  base::str(where, " is empty: give at least one element, or leave it out"));
            }
            out.*member = std::move(items);
            return {};
          }};
}

template <typename T>
Option<T> map(const char* name, std::map<std::string, std::string> T::*member, RowText row) {
  return {make_doc(name, "list(map(string))", "map(string)", "", row),
          [=](T& out, const base::Json& value, const std::string& where) -> base::Status {
            TRY(out.*member, decode_map(value, where, row));
            return {};
          }};
}

/// One option of `object` into `out`; a required one must be there and not "".
template <typename T>
base::Status decode_option(const Option<T>& option, const base::Json& object, const std::string& prefix, T& out) {
  TRY(const base::Json* value, find_value(object, option.doc, prefix));
  const std::string where = prefix + option.doc.name;
  if (option.doc.required && (value == nullptr || *value == "")) {
    return base::Error::invalid_argument(
        base::str(where, value == nullptr ? " is missing" : " is empty", ": give one, like ", option.doc.example));
  }
  return value == nullptr ? base::Status() : option.store(out, *value, where);
}

/// Fills `out` from `object` row by row; all that is wrong is in the error.
template <typename T>
base::Status decode_table(const OptionTable<T>& table, const base::Json& object, const std::string& prefix, T& out) {
  Mistakes wrong;
  for (const Option<T>& option : table) wrong.add(decode_option(option, object, prefix, out));
  return std::move(wrong).status();
}

template <typename T>
std::vector<OptionDoc> docs_of(const OptionTable<T>& table) {
  std::vector<OptionDoc> docs;
  for (const Option<T>& option : table) docs.push_back(option.doc);
  return docs;
}

/// `name { … }`, at most once; a block of nothing but empty strings counts as absent. `check` sees the whole block.
template <typename T, typename Block>
Option<T> block(const char* name, Block T::*member, const OptionTable<Block>& table,
                BlockCheck<std::type_identity_t<Block>> check, RowText row) {
  Option<T> option{make_doc(name, "", "block", "", row),
                   [=](T& out, const base::Json& value, const std::string& where) -> base::Status {
                     TRY(const base::Json object, decode_block(value, where));
                     if (is_blank(object)) return {};
                     Block decoded;
                     TRY_VOID(decode_table(table, object, where + ".", decoded));
                     if (check != nullptr) TRY_VOID(check(where, decoded));
                     out.*member = std::move(decoded);
                     return {};
                   }};
  option.doc.fields = docs_of(table);
  return option;
}

/// `name { … }`, any number of times.
template <typename T, typename Block>
Option<T> blocks(const char* name, std::vector<Block> T::*member, const OptionTable<Block>& table,
                 BlockCheck<std::type_identity_t<Block>> check, RowText row) {
  Option<T> option{make_doc(name, "", "block, repeatable", "", row),
                   [=](T& out, const base::Json& value, const std::string& where) -> base::Status {
                     TRY(const auto objects, decode_blocks(value, where));
                     (out.*member).clear();
                     Mistakes wrong;
                     for (const base::Json& object : objects) {
                       const std::string each = base::str(where, "[", (out.*member).size(), "]");
                       Block& decoded = (out.*member).emplace_back();
                       wrong.add(decode_table(table, object, each + ".", decoded));
                       if (check != nullptr && !wrong.any()) wrong.add(check(each, decoded));
                     }
                     return std::move(wrong).status();
                   }};
  option.doc.fields = docs_of(table);
  option.doc.repeated = true;
  return option;
}

/// The schema of a whole table.
Schema schema_of(const std::vector<OptionDoc>& docs);
/// One section per option.
std::string markdown_of(const std::vector<OptionDoc>& docs);
base::Json json_of(const std::vector<OptionDoc>& docs);

}  // namespace driver
