#include "oci/fetch/registry/toml.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "base/text.h"

namespace oci::fetch {

namespace {

using Kind = TomlValue::Kind;
using Key = std::vector<std::string>;

bool is_bare(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}
/// Control characters that TOML allows nowhere but in escapes; \n is judged by whoever expects the end of a line.
bool is_control(char c) {
  return base::is_control(c) && c != '\t';
}
void append_utf8(std::string& out, std::uint32_t code);
TomlValue* find(TomlValue& table, std::string_view key);

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}
  base::Result<TomlValue> document();

 private:
  base::Error error(std::string_view what) const {
    return base::Error::invalid_argument(base::str("line ", line_, ": ", what));
  }
  bool at_end() const { return at_ == text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[at_]; }
  bool starts(std::string_view what) const { return text_.substr(at_).starts_with(what); }
  bool take(std::string_view what);
  void skip_blanks();
  base::Status skip_comment();
  base::Status skip_lines();
  base::Status end_of_line();

  base::Result<TomlValue*> header(TomlValue& root);
  base::Status assignment(TomlValue& table, int depth);
  base::Result<Key> key();
  base::Result<TomlValue*> walk(TomlValue& from, const Key& key, bool by_header);

  base::Result<TomlValue> value(int depth);
  base::Result<TomlValue> list(int depth);
  base::Result<TomlValue> inline_table(int depth);
  base::Result<TomlValue> scalar();
  base::Result<std::string> quoted();
  base::Result<std::string> one_line(char quote);
  base::Result<std::string> many_lines(char quote);
  base::Status escape(std::string& out, bool many);
  base::Status code_point(std::string& out, std::size_t digits);

  const std::string_view text_;
  std::size_t at_ = 0;
  int line_ = 1;
};

}  // namespace

const TomlValue* TomlValue::find(std::string_view key) const {
  const auto found =
      std::find_if(members.begin(), members.end(), [&](const auto& member) { return member.key == key; });
  return found == members.end() ? nullptr : &found->value;
}

base::Result<TomlValue> parse_toml(std::string_view text) {
  return Parser(text).document();
}

namespace {

base::Result<TomlValue> Parser::document() {
  TomlValue root;
  TomlValue* table = &root;
  take("\xef\xbb\xbf");
  for (;;) {
    TRY_VOID(skip_lines());
    if (at_end()) return root;
    if (peek() == '[') {
      TRY(table, header(root));
    } else {
      TRY_VOID(assignment(*table, 0));
    }
    TRY_VOID(end_of_line());
  }
}

bool Parser::take(std::string_view what) {
  if (!starts(what)) return false;
  at_ += what.size();
  line_ += static_cast<int>(std::count(what.begin(), what.end(), '\n'));
  return true;
}

void Parser::skip_blanks() {
  while (peek() == ' ' || peek() == '\t') ++at_;
}

base::Status Parser::skip_comment() {
  if (peek() != '#') return {};
  while (!at_end() && peek() != '\n' && !starts("\r\n")) {
    if (is_control(peek())) return error("a comment has control characters");
    ++at_;
  }
  return {};
}

base::Status Parser::skip_lines() {
  do {
    skip_blanks();
    TRY_VOID(skip_comment());
  } while (take("\n") || take("\r\n"));
  return {};
}

base::Status Parser::end_of_line() {
  skip_blanks();
  TRY_VOID(skip_comment());
  if (at_end() || take("\n") || take("\r\n")) return {};
  return error("unexpected text at the end of the line");
}

base::Result<TomlValue*> Parser::header(TomlValue& root) {
  if (take("[[")) return error("arrays of tables, [[…]], are not supported");
  take("[");
  TRY(const Key name, key());
  if (!take("]")) return error("a table's name must end with ]");
  TRY(TomlValue * table, walk(root, name, true));
  if (table->has_header) return error("this table is defined twice");
  table->has_header = true;
  return table;
}

base::Status Parser::assignment(TomlValue& table, int depth) {
  TRY(Key name, key());
  if (!take("=")) return error("a key must be followed by =");
  skip_blanks();
  const std::string last = std::move(name.back());
  name.pop_back();
  TRY(TomlValue * target, walk(table, name, false));
  if (find(*target, last) != nullptr) return error("this key is defined twice");
  if (target->members.size() >= kTomlMembersMax) return error("a table has too many keys");
  TRY(auto read, value(depth + static_cast<int>(name.size())));
  target->members.push_back({last, std::move(read)});
  return {};
}

// a."b c".'d', with the blanks around it.
base::Result<Key> Parser::key() {
  Key out;
  do {
    skip_blanks();
    if (peek() == '"' || peek() == '\'') {
      if (starts("\"\"\"") || starts("'''")) return error("a key must be on one line");
      TRY(auto part, quoted());
      out.push_back(std::move(part));
    } else {
      const std::size_t begin = at_;
      while (is_bare(peek())) ++at_;
      if (at_ == begin) return error("a key is missing; quote it if it has other characters than A-Z a-z 0-9 _ -");
      out.emplace_back(text_.substr(begin, at_ - begin));
    }
    skip_blanks();
    if (out.size() > static_cast<std::size_t>(kTomlDepthMax)) return error("a key has too many parts");
  } while (take("."));
  return out;
}

// Tables on the way are made where they are missing. What was written as a whole stays as it was written.
base::Result<TomlValue*> Parser::walk(TomlValue& from, const Key& key, bool by_header) {
  TomlValue* table = &from;
  for (const std::string& part : key) {
    TomlValue* next = find(*table, part);
    if (next == nullptr) {
      if (table->members.size() >= kTomlMembersMax) return error("a table has too many keys");
      table->members.push_back({part, TomlValue{}});
      next = &table->members.back().value;
      next->line = line_;
    } else if (next->kind != Kind::kTable || !next->open || (!by_header && next->has_header)) {
      return error("this key already has a value of its own");
    }
    table = next;
  }
  return table;
}

base::Result<TomlValue> Parser::value(int depth) {
  if (depth >= kTomlDepthMax) return error("values are nested too deeply");
  const int line = line_;
  TomlValue out;
  if (peek() == '[') {
    TRY(out, list(depth));
  } else if (peek() == '{') {
    TRY(out, inline_table(depth));
  } else if (peek() == '"' || peek() == '\'') {
    out.kind = Kind::kText;
    TRY(out.text, quoted());
  } else {
    TRY(out, scalar());
  }
  out.line = line;
  return out;
}

base::Result<TomlValue> Parser::list(int depth) {
  TomlValue out;
  out.kind = Kind::kList;
  take("[");
  for (;;) {
    TRY_VOID(skip_lines());
    if (take("]")) return out;
    TRY(auto item, value(depth + 1));
    out.items.push_back(std::move(item));
    TRY_VOID(skip_lines());
    if (take("]")) return out;
    if (!take(",")) return error("a list must end with ], and its values must be separated by commas");
  }
}

base::Result<TomlValue> Parser::inline_table(int depth) {
  TomlValue out;
  take("{");
  skip_blanks();
  if (!take("}")) {
    do {
      TRY_VOID(assignment(out, depth + 1));
      skip_blanks();
    } while (take(","));
    if (!take("}")) return error("an inline table must end with }, and its keys must be separated by commas");
  }
  out.open = false;
  return out;
}

base::Result<TomlValue> Parser::scalar() {
  const std::size_t begin = at_;
  const auto is_part = [](char c) { return is_bare(c) || c == '+' || c == '.' || c == ':'; };
  while (is_part(peek())) ++at_;
  const std::string_view word = text_.substr(begin, at_ - begin);
  TomlValue out;
  out.kind = Kind::kBool;
  out.flag = word == "true";
  if (word == "true" || word == "false") return out;
  out.kind = Kind::kOther;
  const std::string_view digits = word.substr(std::min(word.size(), word.find_first_not_of("+-")));
  const bool is_number = !digits.empty() && digits.front() >= '0' && digits.front() <= '9';
  if (!is_number && digits != "inf" && digits != "nan") return error("a value is missing; strings must be quoted");
  return out;
}

base::Result<std::string> Parser::quoted() {
  const char quote = peek();
  if (take(std::string(3, quote))) return many_lines(quote);
  ++at_;
  return one_line(quote);
}

base::Result<std::string> Parser::one_line(char quote) {
  std::string out;
  for (;;) {
    const char c = peek();
    if (at_end() || is_control(c)) return error("a string is not closed, or has control characters");
    if (quote == '"' && c == '\\') {
      TRY_VOID(escape(out, false));
      continue;
    }
    ++at_;
    if (c == quote) return out;
    out += c;
  }
}

base::Result<std::string> Parser::many_lines(char quote) {
  const std::string end(3, quote);
  std::string out;
  take("\n") || take("\r\n");  // the line that the quotes stand on
  for (;;) {
    if (take(end)) {
      for (int more = 0; more < 2 && peek() == quote; ++more, ++at_) out += quote;  // they may belong to the text
      return out;
    }
    if (take("\n") || take("\r\n")) {
      out += '\n';
      continue;
    }
    if (at_end() || is_control(peek())) return error("a string is not closed, or has control characters");
    if (quote == '"' && peek() == '\\') {
      TRY_VOID(escape(out, true));
      continue;
    }
    out += text_[at_++];
  }
}

base::Status Parser::escape(std::string& out, bool many) {
  constexpr std::string_view kNames = "btnfr\"\\";
  constexpr std::string_view kMeans = "\b\t\n\f\r\"\\";
  ++at_;
  const char c = peek();
  if (const auto which = kNames.find(c); !at_end() && which != std::string_view::npos) {
    ++at_;
    out += kMeans[which];
    return {};
  }
  if (take("u")) return code_point(out, 4);
  if (take("U")) return code_point(out, 8);
  // A backslash at the end of a line takes all white space behind it away.
  if (many) {
    skip_blanks();
    bool newline = false;
    while (take("\n") || take("\r\n")) {
      newline = true;
      skip_blanks();
    }
    if (newline) return {};
  }
  return error("a string has an unknown escape; write a backslash as \\\\, or use single quotes");
}

base::Status Parser::code_point(std::string& out, std::size_t digits) {
  std::uint32_t code = 0;
  for (std::size_t i = 0; i < digits; ++i, ++at_) {
    const char c = peek();
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) return error("an escape needs hexadecimal digits");
    code = code << 4 | static_cast<std::uint32_t>(digit);
  }
  if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return error("an escape does not name a character");
  append_utf8(out, code);
  return {};
}

void append_utf8(std::string& out, std::uint32_t code) {
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | ((code >> shift) & 0x3f)); };
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xc0 | code >> 6);
    tail(0);
  } else if (code < 0x10000) {
    out += static_cast<char>(0xe0 | code >> 12);
    tail(6);
    tail(0);
  } else {
    out += static_cast<char>(0xf0 | code >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}

TomlValue* find(TomlValue& table, std::string_view key) {
  return const_cast<TomlValue*>(table.find(key));
}

}  // namespace

}  // namespace oci::fetch
