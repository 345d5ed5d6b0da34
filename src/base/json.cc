#include "base/json.h"

#include <set>

namespace base {

namespace {

// Builds the document while counting, so that limits hold before memory is spent. nlohmann calls these in order; any
// `false` stops the parse.
class LimitedBuilder : public nlohmann::json_sax<Json> {
 public:
  explicit LimitedBuilder(const JsonLimits& limits) : limits_(limits) {}

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t& /*text*/) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t& value) override { return add(std::string(value.begin(), value.end())); }
  bool start_object(std::size_t /*elements*/) override { return open(Json::object()); }
  bool start_array(std::size_t /*elements*/) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& value) override {
    if (!limits_.duplicate_keys && stack_.back()->contains(value)) {
      return fail(Code::kInvalidArgument, str("key \"", value.substr(0, 64), "\" appears twice"));
    }
    key_ = std::move(value);
    return true;
  }
  bool parse_error(std::size_t position, const std::string& /*token*/, const nlohmann::detail::exception&) override {
    return fail(Code::kInvalidArgument, str("malformed JSON at byte ", position));
  }

  Json take() { return std::move(root_); }
  const std::string& problem() const { return problem_; }
  Code code() const { return code_; }

 private:
  bool fail(Code code, std::string problem) {
    if (problem_.empty()) {
      code_ = code;
      problem_ = std::move(problem);
    }
    return false;
  }
  Json* place(Json value) {
    if (stack_.empty()) return &(root_ = std::move(value));
    Json& parent = *stack_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    return &(parent[key_] = std::move(value));
  }
  bool count() {
    if (++nodes_ <= limits_.nodes_max) return true;
    return fail(Code::kResourceExhausted, str("more than ", limits_.nodes_max, " values"));
  }
  template <typename T>
  bool add(T&& value) {
    if (!count()) return false;
    place(Json(std::forward<T>(value)));
    return true;
  }
  bool open(Json container) {
    if (!count()) return false;
    if (stack_.size() >= limits_.depth_max) {
      return fail(Code::kResourceExhausted, str("nested deeper than ", limits_.depth_max));
    }
    stack_.push_back(place(std::move(container)));
    return true;
  }
  bool close() {
    stack_.pop_back();
    return true;
  }

  const JsonLimits& limits_;
  Json root_;
  std::vector<Json*> stack_;  // stays valid: only the innermost container grows, its own elements are not referenced
  std::string key_;
  std::size_t nodes_ = 0;
  std::string problem_;
  Code code_ = Code::kInvalidArgument;
};

Result<Json> parse(std::string_view text, std::string_view what, const JsonLimits& limits,
                   nlohmann::detail::input_format_t format) {
  if (text.size() > limits.bytes_max) {
    return Error::resource_exhausted(
        str(what, " has ", text.size(), " bytes, more than the limit of ", limits.bytes_max));
  }
  LimitedBuilder builder(limits);
  if (!Json::sax_parse(text.begin(), text.end(), &builder, format)) {
    return Error{builder.code(), str(what, ": ", builder.problem().empty() ? "malformed" : builder.problem())};
  }
  return builder.take();
}

Error wrong_type(std::string_view key, std::string_view wanted, const Json& value) {
  return Error::invalid_argument(str("\"", key, "\" must be ", wanted, ", not ", value.type_name()));
}

const Json* member(const Json& object, std::string_view key) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

}  // namespace

Result<Json> parse_json(std::string_view text, std::string_view what, const JsonLimits& limits) {
  return parse(text, what, limits, nlohmann::detail::input_format_t::json);
}

Result<Json> parse_msgpack(std::string_view bytes, std::string_view what, const JsonLimits& limits) {
  return parse(bytes, what, limits, nlohmann::detail::input_format_t::msgpack);
}

std::string dump_json(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}
std::string dump_json_pretty(const Json& value) {
  return value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Result<std::optional<std::string>> get_string(const Json& object, std::string_view key) {
  const Json* value = member(object, key);
  if (value == nullptr) return std::optional<std::string>();
  if (!value->is_string()) return wrong_type(key, "a string", *value);
  return std::optional<std::string>(*value->get_ptr<const std::string*>());
}

Result<std::optional<std::int64_t>> get_int(const Json& object, std::string_view key) {
  const Json* value = member(object, key);
  if (value == nullptr) return std::optional<std::int64_t>();
  if (const auto* u = value->get_ptr<const Json::number_unsigned_t*>()) {
    if (*u > static_cast<std::uint64_t>(INT64_MAX)) return wrong_type(key, "an integer below 2^63", *value);
    return std::optional<std::int64_t>(static_cast<std::int64_t>(*u));
  }
  if (const auto* i = value->get_ptr<const Json::number_integer_t*>()) return std::optional<std::int64_t>(*i);
  return wrong_type(key, "an integer", *value);
}

Result<std::optional<bool>> get_bool(const Json& object, std::string_view key) {
  const Json* value = member(object, key);
  if (value == nullptr) return std::optional<bool>();
  if (const auto* b = value->get_ptr<const bool*>()) return std::optional<bool>(*b);
  return wrong_type(key, "true or false", *value);
}

Result<std::optional<std::vector<std::string>>> get_string_list(const Json& object, std::string_view key) {
  const Json* value = member(object, key);
  if (value == nullptr) return std::optional<std::vector<std::string>>();
  if (!value->is_array()) return wrong_type(key, "a list of strings", *value);
  std::vector<std::string> out;
  out.reserve(value->size());
  for (const Json& element : *value) {
    const auto* text = element.get_ptr<const std::string*>();
    if (text == nullptr) return wrong_type(key, "a list of strings", element);
    out.push_back(*text);
  }
  return std::optional<std::vector<std::string>>(std::move(out));
}

Result<std::string> require_string(const Json& object, std::string_view key) {
  TRY(auto text, get_string(object, key));
  if (!text) return Error::invalid_argument(str("\"", key, "\" is missing"));
  return *std::move(text);
}

Result<std::uint64_t> require_uint(const Json& object, std::string_view key) {
  TRY(const auto value, get_int(object, key));
  if (!value) return Error::invalid_argument(str("\"", key, "\" is missing"));
  if (*value < 0) return Error::invalid_argument(str("\"", key, "\" must not be negative"));
  return static_cast<std::uint64_t>(*value);
}

Result<const Json*> get_object(const Json& object, std::string_view key) {
  const Json* value = member(object, key);
  if (value != nullptr && !value->is_object()) return wrong_type(key, "an object", *value);
  return value;
}

Result<const Json*> get_array(const Json& object, std::string_view key) {
  const Json* value = member(object, key);
  if (value != nullptr && !value->is_array()) return wrong_type(key, "a list", *value);
  return value;
}

}  // namespace base
