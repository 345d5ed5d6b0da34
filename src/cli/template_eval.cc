#include <algorithm>
#include <array>
#include <cstdio>
#include <functional>
#include <optional>

#include "base/text.h"
#include "cli/flags.h"
#include "cli/template_tree.h"

namespace cli::tree {

using base::Error;
using base::Json;
using base::Result;
using base::Status;
using base::str;

namespace {

/// Members whose keys are somebody's own: one that is not there is no mistake of the template.
constexpr std::array<std::string_view, 7> kMaps = {"Labels",       "Ports",       "Networks",  "Options",
                                                   "PortBindings", "Annotations", "attributes"};

struct Value {
  Json json;
  bool is_map = false;
  bool is_missing = false;  // of a map
};

/// What a function does with its arguments; errors are sentences without a position.
using Arguments = std::vector<Value>;
using Function = Result<Value> (*)(const Arguments&);
struct NamedFunction {
  std::string_view name;
  std::size_t least;
  std::size_t most;
  Function call;
};
constexpr std::size_t kAny = 1000;

/// One run over a document.
class Evaluation {
 public:
  explicit Evaluation(const Json& document) { variables_.push_back({"", {document}}); }
  Status write(const std::vector<Node>& nodes, const Value& dot);
  std::string take() { return std::move(out_); }

 private:
  struct Variable {
    std::string name;
    Value value;
  };
  Status write(const Node& node, const Value& dot);
  Status write_range(const Node& node, const Value& dot);
  Result<Value> value_of(const Pipeline& pipeline, const Value& dot, bool sets_variables = true);
  Result<Value> value_of(const Command& command, const Value& dot, const std::optional<Value>& last);
  Result<Value> value_of(const Operand& operand, const Value& dot);
  Result<Value> label_of(const Operand& operand, const Operand& key, const Value& dot);
  Status set(const Pipeline& pipeline, const std::string& name, const Value& value, std::size_t at);
  Result<Value> variable(const Operand& operand) const;

  std::string out_;
  std::vector<Variable> variables_;
};

Result<Value> field_of(const Value& value, const std::string& name, std::size_t at);
bool is_true(const Value& value);
std::string text_of(const Value& value);
std::string text_of(const Json& json);
const NamedFunction* find_function(std::string_view name);
std::size_t position_of(const Pipeline& pipeline);

}  // namespace

Result<std::string> evaluate(const std::vector<Node>& nodes, const Json& document) {
  Evaluation evaluation(document);
  TRY_VOID(evaluation.write(nodes, {document}));
  return evaluation.take();
}

bool is_function(std::string_view name) {
  return find_function(name) != nullptr;
}

namespace {

Status Evaluation::write(const std::vector<Node>& nodes, const Value& dot) {
  const std::size_t known = variables_.size();
  for (const Node& node : nodes) TRY_VOID(write(node, dot));
  variables_.resize(known);
  return {};
}

Status Evaluation::write(const Node& node, const Value& dot) {
  if (node.kind == Node::Kind::kText) {
    out_ += node.text;
    return {};
  }
  if (node.kind == Node::Kind::kRange) return write_range(node, dot);
  const std::size_t known = variables_.size();
  TRY(const Value value, value_of(node.pipeline, dot));
  if (node.kind == Node::Kind::kPrint) {
    if (node.pipeline.variables.empty()) out_ += text_of(value);
    return {};
  }
  const bool holds = is_true(value);
  const bool with = node.kind == Node::Kind::kWith && holds;
  TRY_VOID(write(holds ? node.body : node.otherwise, with ? value : dot));
  variables_.resize(known);
  return {};
}

Status Evaluation::write_range(const Node& node, const Value& dot) {
  const std::size_t known = variables_.size();
  const std::vector<std::string>& names = node.pipeline.variables;
  const std::size_t at = position_of(node.pipeline);
  TRY(const Value all, value_of(node.pipeline, dot, false));
  if (!all.json.is_structured() && !all.json.is_null()) {
    return error_at(at, str("this is no list: ", text_of(all)));
  }
  std::size_t count = 0;
  for (const auto& [key, json] : all.json.items()) {
    const Value value{json};
    if (!names.empty()) TRY_VOID(set(node.pipeline, names.back(), value, at));
    if (names.size() == 2) {
      const Value index{all.json.is_array() ? Json(count) : Json(key)};
      TRY_VOID(set(node.pipeline, names.front(), index, at));
    }
    TRY_VOID(write(node.body, value));
    variables_.resize(known);
    ++count;
  }
  return count == 0 ? write(node.otherwise, dot) : Status();
}

Result<Value> Evaluation::value_of(const Pipeline& pipeline, const Value& dot, bool sets_variables) {
  std::optional<Value> last;
  for (const Command& command : pipeline.commands) {
    TRY(Value value, value_of(command, dot, last));
    last = std::move(value);
  }
  const std::size_t at = position_of(pipeline);
  if (!sets_variables) return *std::move(last);
  if (pipeline.variables.size() > 1) return error_at(at, "only a range has two variables");
  if (!pipeline.variables.empty()) TRY_VOID(set(pipeline, pipeline.variables.front(), *last, at));
  return *std::move(last);
}

Result<Value> Evaluation::value_of(const Command& command, const Value& dot, const std::optional<Value>& last) {
  const Operand& first = command.operands.front();
  if (first.kind != Operand::Kind::kFunction) {
    const bool asks_label = command.operands.size() == 2 && !first.fields.empty() && first.fields.back() == "Label";
    if (asks_label) return label_of(first, command.operands.back(), dot);
    if (command.operands.size() > 1 || last) return error_at(first.at, "this is no function, and takes no arguments");
    return value_of(first, dot);
  }
  Arguments arguments;
  for (std::size_t i = 1; i < command.operands.size(); ++i) {
    TRY(Value value, value_of(command.operands[i], dot));
    arguments.push_back(std::move(value));
  }
  if (last) arguments.push_back(*last);
  const NamedFunction& function = *find_function(first.name);
  if (arguments.size() < function.least || arguments.size() > function.most) {
    return error_at(first.at, str(first.name, " takes ", function.least == function.most ? "" : "at least ",
                                  function.least, function.least == 1 ? " argument" : " arguments"));
  }
  auto value = function.call(arguments);
  if (!value) return error_at(first.at, str(first.name, ": ", value.error().message));
  for (const std::string& field : first.fields) {
    TRY(*value, field_of(*value, field, first.at));
  }
  return value;
}

Result<Value> Evaluation::value_of(const Operand& operand, const Value& dot) {
  Value value;
  switch (operand.kind) {
    case Operand::Kind::kDot:
      value = dot;
      break;
    case Operand::Kind::kVariable: {
      TRY(value, variable(operand));
      break;
    }
    case Operand::Kind::kLiteral:
      value.json = operand.literal;
      break;
    case Operand::Kind::kFunction: {
      TRY(value, value_of(Command{{operand}}, dot, std::nullopt));
      return value;
    }
    case Operand::Kind::kPipeline: {
      TRY(value, value_of(operand.pipeline.front(), dot));
      break;
    }
  }
  for (const std::string& field : operand.fields) {
    TRY(value, field_of(value, field, operand.at));
  }
  return value;
}

// {{.Label "k"}}, as Docker has it.
Result<Value> Evaluation::label_of(const Operand& operand, const Operand& key, const Value& dot) {
  Operand labels = operand;
  labels.fields.back() = "Labels";
  TRY(const Value all, value_of(labels, dot));
  TRY(const Value name, value_of(key, dot));
  const auto it = all.json.is_object() ? all.json.find(text_of(name)) : all.json.end();
  return Value{it == all.json.end() ? Json("") : *it};
}

Status Evaluation::set(const Pipeline& pipeline, const std::string& name, const Value& value, std::size_t at) {
  if (pipeline.declares) {
    variables_.push_back({name, value});
    return {};
  }
  const auto it =
      std::find_if(variables_.rbegin(), variables_.rend(), [&](const Variable& v) { return v.name == name; });
  if (it == variables_.rend()) return error_at(at, str("there is no variable $", name));
  it->value = value;
  return {};
}

Result<Value> Evaluation::variable(const Operand& operand) const {
  const auto it =
      std::find_if(variables_.rbegin(), variables_.rend(), [&](const Variable& v) { return v.name == operand.name; });
  if (it == variables_.rend()) return error_at(operand.at, str("there is no variable $", operand.name));
  return it->value;
}

// .ID is .Id, too: Docker and podman do not write all names alike.
Result<Value> field_of(const Value& value, const std::string& name, std::size_t at) {
  if (!value.json.is_object()) {
    return error_at(at,
                    str("there is no field ", name, " in ", value.json.is_structured() ? "a list" : text_of(value)));
  }
  const bool is_map = std::find(kMaps.begin(), kMaps.end(), name) != kMaps.end();
  const auto it = value.json.find(name);
  if (it != value.json.end()) return Value{*it, is_map};
  if (value.is_map) return Value{nullptr, false, true};
  std::vector<std::string> names;
  for (const auto& [key, member] : value.json.items()) {
    if (base::ascii_lower(key) == base::ascii_lower(name)) return Value{member, is_map};
    names.push_back(key);
  }
  const std::string guess = nearest(name, names);
  return error_at(at, str("there is no field ", name, guess.empty() ? "" : str(", did you mean ", guess, "?")));
}

bool is_true(const Value& value) {
  const Json& json = value.json;
  if (json.is_boolean()) return json == true;
  if (json.is_number()) return json != 0;
  if (const auto* text = json.get_ptr<const std::string*>()) return !text->empty();
  return !json.empty();
}

std::string text_of(const Value& value) {
  return value.is_missing ? "<no value>" : text_of(value.json);
}

// As Go prints values.
std::string text_of(const Json& json) {
  if (const auto* text = json.get_ptr<const std::string*>()) return *text;
  if (json.is_null()) return "<nil>";
  if (!json.is_structured()) return base::dump_json(json);
  std::string out = json.is_object() ? "map[" : "[";
  for (const auto& [key, member] : json.items()) {
    if (out.back() != '[') out += ' ';
    out += json.is_object() ? str(key, ":", text_of(member)) : text_of(member);
  }
  return out + "]";
}

std::size_t position_of(const Pipeline& pipeline) {
  return pipeline.commands.front().operands.front().at;
}

// The functions.

Result<std::string> string_of(const Value& value) {
  if (const auto* text = value.json.get_ptr<const std::string*>()) return *text;
  return Error::invalid_argument(str(text_of(value), " is not a string"));
}

Result<Value> json_function(const Arguments& arguments) {
  return Value{base::printable_json(base::dump_json(arguments[0].json))};
}

Result<Value> join_function(const Arguments& arguments) {
  TRY(const std::string separator, string_of(arguments[1]));
  if (!arguments[0].json.is_array() && !arguments[0].json.is_null()) {
    return Error::invalid_argument(str(text_of(arguments[0]), " is no list"));
  }
  std::string out;
  for (std::size_t i = 0; i < arguments[0].json.size(); ++i) {
    out += str(i == 0 ? "" : separator, text_of(arguments[0].json[i]));
  }
  return Value{out};
}

Result<Value> split_function(const Arguments& arguments) {
  TRY(const std::string text, string_of(arguments[0]));
  TRY(const std::string separator, string_of(arguments[1]));
  if (separator.empty()) return Error::invalid_argument("the separator is empty");
  Json parts = Json::array();
  std::size_t begin = 0;
  for (std::size_t end = 0; (end = text.find(separator, begin)) != std::string::npos; begin = end + separator.size()) {
    parts.push_back(text.substr(begin, end - begin));
  }
  parts.push_back(text.substr(begin));
  return Value{parts};
}

Result<Value> upper_function(const Arguments& arguments) {
  TRY(const std::string text, string_of(arguments[0]));
  return Value{base::ascii_upper(text)};
}

Result<Value> lower_function(const Arguments& arguments) {
  TRY(const std::string text, string_of(arguments[0]));
  return Value{base::ascii_lower(text)};
}

Result<Value> title_function(const Arguments& arguments) {
  TRY(std::string text, string_of(arguments[0]));
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (i == 0 || text[i - 1] == ' ') text[i] = base::ascii_upper(text.substr(i, 1))[0];
  }
  return Value{text};
}

Result<Value> truncate_function(const Arguments& arguments) {
  TRY(const std::string text, string_of(arguments[0]));
  if (!arguments[1].json.is_number_integer() || arguments[1].json < 0) {
    return Error::invalid_argument("the length is not a number");
  }
  return Value{base::to_utf8(text.substr(0, arguments[1].json.get<std::size_t>()))};
}

Result<Value> index_function(const Arguments& arguments) {
  Json at = arguments[0].json;
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    const Json& key = arguments[i].json;
    if (at.is_object() && key.is_string()) {
      const auto it = at.find(key.get_ref<const std::string&>());
      at = it == at.end() ? Json("") : Json(*it);
    } else if (at.is_array() && key.is_number_integer()) {
      if (key < 0 || key >= at.size()) {
        return Error::invalid_argument(str("there is no ", text_of(key), " in a list of ", at.size()));
      }
      at = Json(at[key.get<std::size_t>()]);
    } else {
      return Error::invalid_argument(str("there is no ", text_of(key), " in ", text_of(at)));
    }
  }
  return Value{at};
}

Result<Value> len_function(const Arguments& arguments) {
  const Json& json = arguments[0].json;
  if (const auto* text = json.get_ptr<const std::string*>()) return Value{text->size()};
  if (json.is_structured() || json.is_null()) return Value{json.size()};
  return Error::invalid_argument(str(text_of(json), " has no length"));
}

Result<Value> print_function(const Arguments& arguments) {
  std::string out;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const bool apart = i > 0 && !arguments[i].json.is_string() && !arguments[i - 1].json.is_string();
    out += str(apart ? " " : "", text_of(arguments[i]));
  }
  return Value{out};
}

Result<Value> println_function(const Arguments& arguments) {
  std::string out;
  for (std::size_t i = 0; i < arguments.size(); ++i) out += str(i > 0 ? " " : "", text_of(arguments[i]));
  return Value{out + "\n"};
}

// One value, in up to 1000 columns.
std::string padded(const std::string& flags, const std::string& text) {
  constexpr std::size_t kColumnsMax = 1000;
  const bool left = flags.starts_with('-');
  const bool zeros = flags.starts_with('0');
  std::size_t columns = 0;
  for (const char c : flags) {
    if (c == '.') break;
    if (c >= '0' && c <= '9') columns = std::min(columns * 10 + static_cast<std::size_t>(c - '0'), kColumnsMax);
  }
  const auto shown = static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
  if (shown >= columns) return text;
  const std::string blanks(columns - shown, zeros ? '0' : ' ');
  return left ? text + blanks : blanks + text;
}

std::string hex_of(const Value& value) {
  std::array<char, 32> text{};
  if (value.json.is_number_integer()) {
    std::snprintf(text.data(), text.size(), "%llx", value.json.get<unsigned long long>());
    return text.data();
  }
  std::string out;
  for (const char c : text_of(value)) {
    std::snprintf(text.data(), text.size(), "%02x", static_cast<unsigned>(static_cast<unsigned char>(c)));
    out += text.data();
  }
  return out;
}

Result<std::string> formatted(char verb, const std::string& flags, const Value& value) {
  switch (verb) {
    case 's':
    case 'v':
      return padded(flags, text_of(value));
    case 'q':
      return padded(flags, base::dump_json(Json(text_of(value))));
    case 'x':
      return padded(flags, hex_of(value));
    case 'd':
      if (value.json.is_number_integer()) return padded(flags, text_of(value));
      return Error::invalid_argument(str(text_of(value), " is not a whole number"));
    case 't':
      if (value.json.is_boolean()) return padded(flags, text_of(value));
      return Error::invalid_argument(str(text_of(value), " is neither true nor false"));
    default:
      return Error::invalid_argument(str("%", std::string(1, verb), " is not known: use %s, %v, %q, %d, %t or %x"));
  }
}

Result<Value> printf_function(const Arguments& arguments) {
  TRY(const std::string format, string_of(arguments[0]));
  std::string out;
  std::size_t next = 1;
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out += format[i];
      continue;
    }
    const std::size_t verb = std::min(format.find_first_not_of("0123456789-+.# ", i + 1), format.size());
    if (verb == format.size()) return Error::invalid_argument("% has no letter behind it");
    if (format[verb] == '%') {
      out += '%';
    } else if (next == arguments.size()) {
      return Error::invalid_argument("there are fewer values than %");
    } else {
      TRY(const std::string text, formatted(format[verb], format.substr(i + 1, verb - i - 1), arguments[next++]));
      out += text;
    }
    i = verb;
  }
  if (next != arguments.size()) return Error::invalid_argument("there are more values than %");
  return Value{out};
}

Status comparable(const Value& a, const Value& b) {
  if (a.json.is_number() == b.json.is_number() && a.json.is_string() == b.json.is_string()) return {};
  if (a.json.is_null() || b.json.is_null()) return {};
  return Error::invalid_argument(str(text_of(a), " and ", text_of(b), " cannot be compared"));
}

Result<Value> eq_function(const Arguments& arguments) {
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    TRY_VOID(comparable(arguments[0], arguments[i]));
    if (arguments[0].json == arguments[i].json) return Value{true};
  }
  return Value{false};
}

Result<Value> ne_function(const Arguments& arguments) {
  TRY_VOID(comparable(arguments[0], arguments[1]));
  return Value{arguments[0].json != arguments[1].json};
}

Result<Value> lt_function(const Arguments& arguments) {
  TRY_VOID(comparable(arguments[0], arguments[1]));
  return Value{arguments[0].json < arguments[1].json};
}

Result<Value> le_function(const Arguments& arguments) {
  TRY_VOID(comparable(arguments[0], arguments[1]));
  return Value{arguments[0].json <= arguments[1].json};
}

Result<Value> gt_function(const Arguments& arguments) {
  return lt_function({arguments[1], arguments[0]});
}

Result<Value> ge_function(const Arguments& arguments) {
  return le_function({arguments[1], arguments[0]});
}

Result<Value> and_function(const Arguments& arguments) {
  const auto it = std::find_if_not(arguments.begin(), arguments.end(), is_true);
  return it == arguments.end() ? arguments.back() : *it;
}

Result<Value> or_function(const Arguments& arguments) {
  const auto it = std::find_if(arguments.begin(), arguments.end(), is_true);
  return it == arguments.end() ? arguments.back() : *it;
}

Result<Value> not_function(const Arguments& arguments) {
  return Value{!is_true(arguments[0])};
}

constexpr std::array<NamedFunction, 22> kFunctions = {{
    {"json", 1, 1, json_function},
    {"join", 2, 2, join_function},
    {"split", 2, 2, split_function},
    {"upper", 1, 1, upper_function},
    {"lower", 1, 1, lower_function},
    {"title", 1, 1, title_function},
    {"truncate", 2, 2, truncate_function},
    {"index", 1, kAny, index_function},
    {"len", 1, 1, len_function},
    {"print", 0, kAny, print_function},
    {"println", 0, kAny, println_function},
    {"printf", 1, kAny, printf_function},
    {"eq", 2, kAny, eq_function},
    {"ne", 2, 2, ne_function},
    {"lt", 2, 2, lt_function},
    {"le", 2, 2, le_function},
    {"gt", 2, 2, gt_function},
    {"ge", 2, 2, ge_function},
    {"and", 1, kAny, and_function},
    {"or", 1, kAny, or_function},
    {"not", 1, 1, not_function},
    {"toJson", 1, 1, json_function},
}};

const NamedFunction* find_function(std::string_view name) {
  const auto it =
      std::find_if(kFunctions.begin(), kFunctions.end(), [&](const NamedFunction& f) { return f.name == name; });
  return it == kFunctions.end() ? nullptr : &*it;
}

}  // namespace
}  // namespace cli::tree
