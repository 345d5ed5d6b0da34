#include "cli/format.h"

#include "base/json.h"
#include "base/text.h"
#include "cli/printer.h"
#include "cli/template.h"

namespace cli {

using base::Json;
using base::Result;
using base::Status;

namespace {

constexpr std::string_view kTable = "table";

std::vector<std::string> columns_of_line(const std::string& line);

}  // namespace

Status print_formatted(Io& io, const std::string& format, const std::vector<Json>& documents, const Json& heads) {
  if (format == "json") {
    print_json(io, Json(documents));
    return {};
  }
  const bool is_table = format.starts_with("table ") || format.starts_with("table\\t");
  const std::string text = is_table ? format.substr(format.find_first_not_of(" ", kTable.size())) : format;
  TRY(const Template parsed, Template::parse(text));
  std::vector<std::vector<std::string>> rows;
  std::string out;
  for (const Json& document : documents) {
    TRY(const std::string line, parsed.apply(document));
    out += line + "\n";
    rows.push_back(columns_of_line(line));
  }
  if (!is_table) {
    print_text(io, out);
    return {};
  }
  // What is made from more than fields may have no title.
  if (const auto head = parsed.apply(heads)) rows.insert(rows.begin(), columns_of_line(*head));
  print_rows(io, rows);
  return {};
}

namespace {

std::vector<std::string> columns_of_line(const std::string& line) {
  std::vector<std::string> columns;
  for (const std::string_view column : base::split(line, '\t')) columns.emplace_back(column);
  return columns;
}

}  // namespace
}  // namespace cli
