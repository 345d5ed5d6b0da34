// --format of the verbs that list and show: "json", a template, or "table " and a template.
#pragma once

#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "base/result.h"
#include "cli/cli.h"

namespace cli {

/// A line (or as many as the template makes) of each document. Behind "table " tabs are columns, and `heads` has what
/// they are called: a document like the others, with the title of each field.
///   errors  as Template's; nothing is printed then
base::Status print_formatted(Io& io, const std::string& format, const std::vector<base::Json>& documents,
                             const base::Json& heads);

}  // namespace cli
