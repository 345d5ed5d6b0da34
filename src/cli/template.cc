#include "cli/template.h"

#include <charconv>

#include "cli/template_tree.h"

namespace cli {

using base::Error;
using base::Json;
using base::Result;
using base::Status;
using base::str;
using tree::error_at;

struct Template::Tree {
  std::vector<tree::Node> nodes;
};

namespace {

constexpr std::size_t kBlocksMax = 32;  // one in another, and so many parentheses: our stack's sake
constexpr std::string_view kBlanks = " \t\r\n";

/// One run over the text; positions are bytes of it.
class TemplateParser {
 public:
  explicit TemplateParser(std::string_view text) : text_(text) {}
  Result<std::vector<tree::Node>> parse();

 private:
  enum class End { kText, kElse, kEnd };
  Result<End> parse_nodes(std::vector<tree::Node>& nodes);
  void add_text(std::vector<tree::Node>& nodes);
  /// Behind "{{": an action or the head of a block. nullopt: it goes on.
  Result<std::optional<End>> parse_action(std::vector<tree::Node>& nodes);
  Status parse_block(tree::Node::Kind kind, std::vector<tree::Node>& nodes);
  Result<tree::Pipeline> parse_pipeline();
  Status parse_variables(tree::Pipeline& pipeline);
  Result<tree::Command> parse_command();
  Result<tree::Operand> parse_operand();
  Status parse_primary(tree::Operand& operand);
  Status parse_fields(tree::Operand& operand);
  Result<std::string> parse_string();
  Status parse_number(tree::Operand& operand);
  Status close_action();

  void skip_blanks();
  bool take(std::string_view token);
  bool take_word(std::string_view word);
  std::string take_name();
  bool at_end_of_pipeline() const;
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  std::string_view text_;
  std::size_t at_ = 0;
  std::size_t depth_ = 0;
  bool trims_ = false;  // what comes next: the last action ended with -}}
};

bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         (static_cast<unsigned char>(c) & 0x80) != 0;
}

std::string unescaped(std::string_view text);

}  // namespace

Result<Template> Template::parse(std::string_view text) {
  auto tree = std::make_shared<Tree>();
  TRY(tree->nodes, TemplateParser(text).parse());
  return Template(std::move(tree));
}

Result<std::string> Template::apply(const Json& document) const {
  return tree::evaluate(tree_->nodes, document);
}

namespace {

Result<std::vector<tree::Node>> TemplateParser::parse() {
  std::vector<tree::Node> nodes;
  TRY(const End end, parse_nodes(nodes));
  if (end != End::kText) return error_at(at_, "there is no block that this ends");
  return nodes;
}

Result<TemplateParser::End> TemplateParser::parse_nodes(std::vector<tree::Node>& nodes) {
  while (true) {
    add_text(nodes);
    if (at_ >= text_.size()) return End::kText;
    at_ += 2;
    TRY(const std::optional<End> end, parse_action(nodes));
    if (end) return *end;
  }
}

void TemplateParser::add_text(std::vector<tree::Node>& nodes) {
  const std::size_t begin = at_;
  at_ = std::min(text_.find("{{", begin), text_.size());
  std::string_view text = text_.substr(begin, at_ - begin);
  if (trims_) text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
  trims_ = false;
  const bool trims_tail = text_.substr(at_, 3) == "{{-" && kBlanks.find(text_.substr(at_).substr(3, 1)) != kBlanks.npos;
  if (trims_tail) text = text.substr(0, text.find_last_not_of(kBlanks) + 1);
  if (text.empty()) return;
  tree::Node& node = nodes.emplace_back();
  node.text = unescaped(text);
}

Result<std::optional<TemplateParser::End>> TemplateParser::parse_action(std::vector<tree::Node>& nodes) {
  if (peek() == '-') ++at_;
  skip_blanks();
  if (take("/*")) {
    const std::size_t end = text_.find("*/", at_);
    if (end == std::string_view::npos) return error_at(at_, "the comment has no end");
    at_ = end + 2;
    TRY_VOID(close_action());
    return std::optional<End>();
  }
  if (take_word("end")) {
    TRY_VOID(close_action());
    return std::optional(End::kEnd);
  }
  if (take_word("else")) return std::optional(End::kElse);  // the block looks what follows
  for (const auto& [word, kind] : {std::pair{"if", tree::Node::Kind::kIf}, std::pair{"range", tree::Node::Kind::kRange},
                                   std::pair{"with", tree::Node::Kind::kWith}}) {
    if (!take_word(word)) continue;
    TRY_VOID(parse_block(kind, nodes));
    return std::optional<End>();
  }
  tree::Node node;
  node.kind = tree::Node::Kind::kPrint;
  TRY(node.pipeline, parse_pipeline());
  TRY_VOID(close_action());
  nodes.push_back(std::move(node));
  return std::optional<End>();
}

Status TemplateParser::parse_block(tree::Node::Kind kind, std::vector<tree::Node>& nodes) {
  const std::size_t begin = at_;
  if (++depth_ > kBlocksMax) return error_at(at_, "too many blocks in one another");
  tree::Node node;
  node.kind = kind;
  TRY(node.pipeline, parse_pipeline());
  TRY_VOID(close_action());
  TRY(End end, parse_nodes(node.body));
  if (end == End::kElse) {
    if (take_word("if")) {
      TRY_VOID(parse_block(tree::Node::Kind::kIf, node.otherwise));
      end = End::kEnd;  // one {{end}} for both
    } else {
      TRY_VOID(close_action());
      TRY(end, parse_nodes(node.otherwise));
    }
  }
  if (end != End::kEnd) return error_at(begin, "the block has no {{end}}");
  --depth_;
  nodes.push_back(std::move(node));
  return {};
}

Result<tree::Pipeline> TemplateParser::parse_pipeline() {
  tree::Pipeline pipeline;
  skip_blanks();
  if (peek() == '$') TRY_VOID(parse_variables(pipeline));
  do {
    TRY(tree::Command command, parse_command());
    pipeline.commands.push_back(std::move(command));
  } while (take("|"));
  return pipeline;
}

// "$x :=", "$x =", "$k, $v :="; nothing if the $ is no more than an operand.
Status TemplateParser::parse_variables(tree::Pipeline& pipeline) {
  const std::size_t begin = at_;
  do {
    if (!take("$")) break;
    pipeline.variables.push_back(take_name());
    skip_blanks();
  } while (take(","));
  pipeline.declares = take(":=");
  if (!pipeline.declares && !take("=")) {
    pipeline.variables.clear();
    at_ = begin;
    return {};
  }
  if (pipeline.variables.size() > 2) return error_at(begin, "at most two variables can be set");
  for (const std::string& name : pipeline.variables) {
    if (name.empty()) return error_at(begin, "a variable has no name");
  }
  return {};
}

Result<tree::Command> TemplateParser::parse_command() {
  tree::Command command;
  skip_blanks();
  while (!at_end_of_pipeline()) {
    TRY(tree::Operand operand, parse_operand());
    command.operands.push_back(std::move(operand));
    skip_blanks();
  }
  if (command.operands.empty()) return error_at(at_, at_ < text_.size() ? "a value is missing" : "}} is missing");
  return command;
}

Result<tree::Operand> TemplateParser::parse_operand() {
  tree::Operand operand;
  operand.at = at_;
  TRY_VOID(parse_primary(operand));
  TRY_VOID(parse_fields(operand));
  return operand;
}

Status TemplateParser::parse_primary(tree::Operand& operand) {
  const char c = peek();
  if (c == '.') {
    if (at_ + 1 >= text_.size() || !is_name_char(text_[at_ + 1])) ++at_;
    return {};
  }
  if (take("$")) {
    operand.kind = tree::Operand::Kind::kVariable;
    operand.name = take_name();
    return {};
  }
  if (take("(")) {
    if (++depth_ > kBlocksMax) return error_at(at_, "too many parentheses in one another");
    operand.kind = tree::Operand::Kind::kPipeline;
    TRY(tree::Pipeline inner, parse_pipeline());
    operand.pipeline.push_back(std::move(inner));
    if (!take(")")) return error_at(at_, "the parenthesis is not closed");
    --depth_;
    return {};
  }
  operand.kind = tree::Operand::Kind::kLiteral;
  if (c == '"' || c == '`') {
    TRY(operand.literal, parse_string());
    return {};
  }
  if ((c >= '0' && c <= '9') || c == '-' || c == '+') return parse_number(operand);
  const std::string name = take_name();
  if (name == "true" || name == "false") {
    operand.literal = name == "true";
  } else if (name == "nil") {
    operand.literal = nullptr;
  } else if (tree::is_function(name)) {
    operand.kind = tree::Operand::Kind::kFunction;
    operand.name = name;
  } else {
    return error_at(operand.at, name.empty() ? str("'", c, "' makes no sense") : str("there is no function ", name));
  }
  return {};
}

Status TemplateParser::parse_fields(tree::Operand& operand) {
  while (peek() == '.' && at_ + 1 < text_.size() && is_name_char(text_[at_ + 1])) {
    ++at_;
    operand.fields.push_back(take_name());
  }
  const bool ends = at_ >= text_.size() || std::string_view(" \t\r\n|)}-,=:").find(peek()) != std::string_view::npos;
  if (!ends) return error_at(at_, str("'", peek(), "' makes no sense"));
  return {};
}

Result<std::string> TemplateParser::parse_string() {
  const std::size_t begin = at_;
  const char quote = text_[at_++];
  std::string out;
  for (; at_ < text_.size() && peek() != quote; ++at_) {
    if (quote == '`' || peek() != '\\') {
      out += peek();
      continue;
    }
    ++at_;
    const std::string_view known = "nrt\"\\";
    const std::size_t which = known.find(peek());
    if (which == std::string_view::npos) return error_at(at_, "this escape is not known");
    out += "\n\r\t\"\\"[which];
  }
  if (at_ >= text_.size()) return error_at(begin, "the string has no end");
  ++at_;
  return out;
}

Status TemplateParser::parse_number(tree::Operand& operand) {
  if (peek() == '+') ++at_;
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
  if (error != std::errc()) return error_at(at_, "this is not a whole number");
  at_ = static_cast<std::size_t>(end - text_.data());
  operand.literal = value;
  return {};
}

Status TemplateParser::close_action() {
  skip_blanks();
  if (take("-}}")) {
    trims_ = true;
    return {};
  }
  if (take("}}")) return {};
  return error_at(at_, "}} is missing");
}

void TemplateParser::skip_blanks() {
  at_ = std::min(text_.find_first_not_of(kBlanks, at_), text_.size());
}

bool TemplateParser::take(std::string_view token) {
  skip_blanks();
  if (!text_.substr(at_).starts_with(token)) return false;
  at_ += token.size();
  return true;
}

bool TemplateParser::take_word(std::string_view word) {
  skip_blanks();
  const std::string_view rest = text_.substr(at_);
  if (!rest.starts_with(word) || (rest.size() > word.size() && is_name_char(rest[word.size()]))) return false;
  at_ += word.size();
  return true;
}

std::string TemplateParser::take_name() {
  const std::size_t begin = at_;
  while (at_ < text_.size() && is_name_char(text_[at_])) ++at_;
  return std::string(text_.substr(begin, at_ - begin));
}

bool TemplateParser::at_end_of_pipeline() const {
  const std::string_view rest = text_.substr(at_);
  return rest.empty() || rest.starts_with("}}") || rest.starts_with("-}}") || rest.starts_with(")") ||
         rest.starts_with("|");
}

std::string unescaped(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char next = text[i] == '\\' && i + 1 < text.size() ? text[i + 1] : '\0';
    if (next == 't' || next == 'n') {
      out += next == 't' ? '\t' : '\n';
      ++i;
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace

base::Error tree::error_at(std::size_t at, std::string_view what) {
  return Error::invalid_argument(str("--format, at character ", at + 1, ": ", what));
}

}  // namespace cli
