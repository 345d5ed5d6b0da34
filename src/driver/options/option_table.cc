#include "driver/options/option_table.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "base/json.h"

namespace driver {

using base::Error;
using base::Json;
using base::Result;
using base::str;

namespace {

/// Linux refuses a single argument or environment entry of 128 KiB (MAX_ARG_STRLEN).
constexpr std::size_t kTextBytesMax = 128u << 10;
constexpr std::size_t kListItemsMax = 4096;

std::string shown(const Json& value, const RowText& row);
Error wrong_type(const std::string& where, const Json& value, std::string_view wanted, const RowText& row = {});
Result<std::int64_t> integer_of(const Json& value, const std::string& where);
base::Status for_each_object(const Json& value, const std::string& where,
                             const std::function<base::Status(const Json&)>& use);
Schema schema_of_one(const OptionDoc& doc, const std::string& name);
void add_markdown(const OptionDoc& doc, const std::string& parent, std::string& out);
std::string example_text(const OptionDoc& doc);

}  // namespace

Result<std::string> decode_text(const Json& value, const std::string& where, const RowText& row) {
  const auto* text = value.get_ptr<const std::string*>();
  if (text == nullptr) return wrong_type(where, value, "a string", row);
  if (text->size() >= kTextBytesMax) {
    return Error::invalid_argument(str(where, " has ", text->size(), " bytes, the limit is ", kTextBytesMax - 1));
  }
  if (text->find('\0') != std::string::npos) {
    return Error::invalid_argument(str(where, " = ", shown(value, row), " contains a NUL byte"));
  }
  if (row.check != nullptr) TRY_VOID(row.check(where, *text));
  return *text;
}

Result<bool> decode_bool(const Json& value, const std::string& where) {
  if (const auto* flag = value.get_ptr<const bool*>()) return *flag;
  if (value == "true") return true;
  if (value == "false") return false;
  return wrong_type(where, value, "true or false");
}

Result<std::int64_t> decode_number(const Json& value, const std::string& where, std::int64_t least, std::int64_t most) {
  TRY(const std::int64_t number, integer_of(value, where));
  if (number < least) {
    return Error::invalid_argument(str(where, " = ", number, " is too small: it must be ", least, " or more"));
  }
  if (number > most) {
    return Error::invalid_argument(str(where, " = ", number, " is too large: it must be ", most, " or less"));
  }
  return number;
}

Result<std::chrono::milliseconds> decode_duration(const Json& value, const std::string& where,
                                                  std::chrono::milliseconds least) {
  const auto* text = value.get_ptr<const std::string*>();
  if (text == nullptr) return wrong_type(where, value, "a duration like \"30s\", \"5m\" or \"1h30m\"");
  auto parsed = parse_duration(*text);
  if (!parsed) return std::move(parsed).error().wrap(where);
  if (*parsed < least) {
    return Error::invalid_argument(
        str(where, " = ", show_value(value), " is too short: it must be ", show_duration(least), " or more"));
  }
  return *parsed;
}

Result<std::uint64_t> decode_size(const Json& value, const std::string& where) {
  if (value.is_number_unsigned()) return value.get<std::uint64_t>();
  if (value.is_number_integer() && value > 0) return value.get<std::uint64_t>();
  const auto* text = value.get_ptr<const std::string*>();
  if (text == nullptr) return wrong_type(where, value, "a size like \"64m\" or \"1.5GiB\"");
  auto parsed = parse_size(*text);
  if (!parsed) return std::move(parsed).error().wrap(where);
  return *parsed;
}

Result<std::vector<std::string>> decode_list(const Json& value, const std::string& where, const RowText& row) {
  if (value == "") return std::vector<std::string>();
  if (!value.is_array()) return wrong_type(where, value, "a list of strings", row);
  if (value.size() > kListItemsMax) {
    return Error::invalid_argument(str(where, " has ", value.size(), " elements, the limit is ", kListItemsMax));
  }
  std::vector<std::string> items;
  items.reserve(value.size());
  Mistakes wrong;
  for (const Json& element : value) {
    const std::string each = str(where, "[", items.size(), "]");
    wrong.take(items.emplace_back(), decode_text(element, each, row));
  }
  TRY_VOID(std::move(wrong).status());
  return items;
}

Result<std::map<std::string, std::string>> decode_map(const Json& value, const std::string& where, const RowText& row) {
  std::map<std::string, std::string> merged;
  if (value == "") return merged;
  TRY_VOID(for_each_object(value, where, [&](const Json& object) -> base::Status {
    for (const auto& [key, element] : object.items()) {
      if (element.is_null()) continue;
      TRY(merged[key], decode_text(element, str(where, "[\"", key, "\"]"), row));
    }
    return {};
  }));
  if (merged.size() > kListItemsMax) {
    return Error::invalid_argument(str(where, " has ", merged.size(), " entries, the limit is ", kListItemsMax));
  }
  return merged;
}

Result<Json> decode_block(const Json& value, const std::string& where) {
  Json merged = Json::object();
  TRY_VOID(for_each_object(value, where, [&](const Json& object) -> base::Status {
    merged.update(object);
    return {};
  }));
  return merged;
}

Result<std::vector<Json>> decode_blocks(const Json& value, const std::string& where) {
  std::vector<Json> objects;
  TRY_VOID(for_each_object(value, where, [&](const Json& object) -> base::Status {
    objects.push_back(object);
    return {};
  }));
  return objects;
}

bool asks_for_nothing(const Json& value) {
  const auto is_nothing = [](const Json& one) { return one.is_null() || one == "" || one == false || one == 0; };
  const auto is_empty_block = [&](const Json& one) {
    return one.is_object() && std::all_of(one.begin(), one.end(), is_nothing);
  };
  if (value.is_array()) return std::all_of(value.begin(), value.end(), is_empty_block);
  return is_nothing(value) || is_empty_block(value);
}

bool is_blank(const Json& object) {
  for (const Json& member : object) {
    if (!member.is_null() && member != "") return false;
  }
  return true;
}

Result<const Json*> find_value(const Json& object, const OptionDoc& doc, const std::string& prefix) {
  const Json* found = nullptr;
  std::string found_name;
  const auto look = [&](const std::string& name) -> base::Status {
    const auto it = object.find(name);
    if (it == object.end() || it->is_null()) return {};
    if (found != nullptr && *found != *it) {
      return Error::invalid_argument(
          str(prefix, found_name, " and ", prefix, name, " name the same option with different values: keep one"));
    }
    found = &*it;
    found_name = name;
    return {};
  };
  TRY_VOID(look(doc.name));
  for (const std::string& alias : doc.aliases) TRY_VOID(look(alias));
  return found;
}

Schema schema_of(const std::vector<OptionDoc>& docs) {
  Schema object;
  for (const OptionDoc& doc : docs) {
    object.children.emplace(doc.name, schema_of_one(doc, doc.name));
    for (const std::string& alias : doc.aliases) object.children.emplace(alias, schema_of_one(doc, alias));
  }
  return object;
}

std::string markdown_of(const std::vector<OptionDoc>& docs) {
  std::string out = "| option | type | default |\n|---|---|---|\n";
  for (const OptionDoc& doc : docs) {
    const std::string fallback = doc.required                  ? "required"
                                 : doc.default_literal.empty() ? "–"
                                                               : str("`", doc.default_literal, "`");
    out += str("| `", doc.name, "` | ", doc.shown_type, " | ", fallback, " |\n");
  }
  for (const OptionDoc& doc : docs) add_markdown(doc, "", out);
  return out;
}

Json json_of(const std::vector<OptionDoc>& docs) {
  Json out = Json::array();
  for (const OptionDoc& doc : docs) {
    Json one = {{"name", doc.name},
                {"type", doc.shown_type},
                {"required", doc.required},
                {"example", doc.example},
                {"text", doc.text}};
    if (!doc.hcl_type.empty()) one["hcl_type"] = doc.hcl_type;
    if (!doc.default_literal.empty()) one["default"] = doc.default_literal;
    if (!doc.aliases.empty()) one["aliases"] = doc.aliases;
    if (!doc.fields.empty()) one["fields"] = json_of(doc.fields);
    out.push_back(std::move(one));
  }
  return out;
}

namespace {

std::string shown(const Json& value, const RowText& row) {
  return row.secret ? "(secret)" : show_value(value);
}

Error wrong_type(const std::string& where, const Json& value, std::string_view wanted, const RowText& row) {
  return Error::invalid_argument(str(where, " = ", shown(value, row), " must be ", wanted));
}

// cty sends numbers as integers, floats, or decimal text, whichever is exact.
Result<std::int64_t> integer_of(const Json& value, const std::string& where) {
  if (const auto* u = value.get_ptr<const Json::number_unsigned_t*>()) {
    if (*u <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      return static_cast<std::int64_t>(*u);
    }
  } else if (const auto* i = value.get_ptr<const Json::number_integer_t*>()) {
    return *i;
  } else if (const auto* f = value.get_ptr<const Json::number_float_t*>()) {
    constexpr double kExactMax = 9007199254740992.0;  // 2^53
    if (std::trunc(*f) == *f && std::fabs(*f) <= kExactMax) return static_cast<std::int64_t>(*f);
  } else if (const auto* text = value.get_ptr<const std::string*>()) {
    std::int64_t parsed = 0;
    const char* end = text->data() + text->size();
    const auto [stop, error] = std::from_chars(text->data(), end, parsed);
    if (error == std::errc() && stop == end) return parsed;
  }
  return wrong_type(where, value, "a whole number");
}

base::Status for_each_object(const Json& value, const std::string& where,
                             const std::function<base::Status(const Json&)>& use) {
  if (value.is_object()) return use(value);
  // The value is not shown: it may be a misplaced secret.
  const auto no_block = [&](const Json& other) {
    return Error::invalid_argument(str(where, " must be a block, not ", other.type_name()));
  };
  if (!value.is_array()) return no_block(value);
  if (value.size() > kListItemsMax) {
    return Error::invalid_argument(str(where, " appears ", value.size(), " times, the limit is ", kListItemsMax));
  }
  for (const Json& element : value) {
    if (!element.is_object()) return no_block(element);
    TRY_VOID(use(element));
  }
  return {};
}

// An alias never gets a default: absence must stay visible, or two names of one option would always conflict.
Schema schema_of_one(const OptionDoc& doc, const std::string& name) {
  Schema schema;
  schema.name = name;
  schema.type = doc.hcl_type;
  if (!doc.fields.empty()) {
    schema.kind = doc.repeated ? Schema::Kind::kBlockList : Schema::Kind::kBlock;
    schema.nested.push_back(schema_of(doc.fields));
    return schema;
  }
  schema.kind = Schema::Kind::kAttr;
  schema.required = doc.required && doc.aliases.empty();
  if (doc.default_literal.empty() || !doc.aliases.empty()) return schema;
  Schema with_default;
  with_default.kind = Schema::Kind::kDefault;
  with_default.name = name;
  with_default.literal = doc.default_literal;
  with_default.nested.push_back(std::move(schema));
  return with_default;
}

void add_markdown(const OptionDoc& doc, const std::string& parent, std::string& out) {
  const std::string full = parent.empty() ? doc.name : str(parent, ".", doc.name);
  out += str("\n", parent.empty() ? "### " : "#### ", "`", full, "`\n\n", doc.text, "\n\n");
  out += str("- type: ", doc.shown_type, doc.required ? ", required" : "", "\n");
  if (!doc.default_literal.empty()) out += str("- default: `", doc.default_literal, "`\n");
  if (!doc.aliases.empty()) {
    out += "- also accepted as:";
    for (const std::string& alias : doc.aliases) out += str(" `", alias, "`");
    out += "\n";
  }
  if (*doc.example.c_str() != '\0') out += str("\n```hcl\n", example_text(doc), "\n```\n");
  for (const OptionDoc& field : doc.fields) add_markdown(field, full, out);
}

std::string example_text(const OptionDoc& doc) {
  if (doc.fields.empty()) return str(doc.name, " = ", doc.example);
  std::string out = doc.name + " {\n";
  for (std::string_view rest = doc.example; !rest.empty();) {
    const std::size_t end = rest.find('\n');
    out += str("  ", rest.substr(0, end), "\n");
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
  }
  return out + "}";
}

}  // namespace
}  // namespace driver
