// Template NUL document. Whatever is parsed can be evaluated, or says where it cannot.
#include <cstdlib>

#include "base/json.h"
#include "cli/template.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t end = std::min(input.find('\0'), size);
  const auto parsed = cli::Template::parse(input.substr(0, end));
  if (!parsed) {
    if (!parsed.error().message.starts_with("--format, at character ")) std::abort();
    return 0;
  }
  base::JsonLimits limits;
  limits.nodes_max = 100;  // ranges in ranges take their time
  const auto document = base::parse_json(input.substr(std::min(end + 1, size)), "document", limits);
  const auto out = parsed->apply(document ? *document : base::Json("x"));
  if (!out && !out.error().message.starts_with("--format, at character ")) std::abort();
  return 0;
}
