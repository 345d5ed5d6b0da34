// A parsed template, and how it is evaluated: between template.cc and template_eval.cc.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace cli::tree {

struct Pipeline;

struct Operand {
  enum class Kind { kDot, kVariable, kLiteral, kFunction, kPipeline };
  Kind kind = Kind::kDot;
  std::size_t at = 0;  // byte of the template, for messages
  std::string name;    // of a variable ("" is $, the whole document) or function
  base::Json literal;
  std::vector<Pipeline> pipeline;   // one, of kPipeline
  std::vector<std::string> fields;  // .A.B behind it
};

/// A function with its arguments, or one operand; what came before it in the pipeline is its last argument.
struct Command {
  std::vector<Operand> operands;
};

struct Pipeline {
  std::vector<std::string> variables;  // that it sets
  bool declares = false;               // := rather than =
  std::vector<Command> commands;
};

struct Node {
  enum class Kind { kText, kPrint, kIf, kRange, kWith };
  Kind kind = Kind::kText;
  std::string text;
  Pipeline pipeline;
  std::vector<Node> body;
  std::vector<Node> otherwise;
};

base::Error error_at(std::size_t at, std::string_view what);
bool is_function(std::string_view name);
base::Result<std::string> evaluate(const std::vector<Node>& nodes, const base::Json& document);

}  // namespace cli::tree
