// The part of Go's text/template that people write behind --format:
//   {{.A.B}} {{$x := .A}} {{.A | json}} {{(index .A 0).B}} {{if}} {{else if}} {{range $k, $v := .A}} {{with}} {{end}}
//   and the functions json, join, split, upper, lower, title, truncate, index, len, print, printf, println, eq, ne, lt,
//   le, gt, ge, and, or, not. \t and \n outside of {{ }} are a tab and a line break.
//
// threads  any; a value
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/json_fwd.h"
#include "base/result.h"

namespace cli {

class Template {
 public:
  ///   errors  kInvalidArgument, with the position
  static base::Result<Template> parse(std::string_view text);

  /// What it makes of `document`. JSON that it writes is fit for a terminal; the rest may be anybody's.
  ///   errors  kInvalidArgument with the position: no such field, or a function that cannot do with what it was given
  base::Result<std::string> apply(const base::Json& document) const;

 private:
  struct Tree;
  explicit Template(std::shared_ptr<const Tree> tree) : tree_(std::move(tree)) {}

  std::shared_ptr<const Tree> tree_;
};

}  // namespace cli
