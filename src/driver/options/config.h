// The one table of options. Each option is declared once (name, aliases, type, default, text, example); from the table
// come the HCL schema that Nomad checks jobs with, the decoder of what Nomad then sends (msgpack of the decoded HCL),
// `containerd-driver schema`, and docs/options.md.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "base/result.h"
#include "driver/values/options.h"

namespace driver {

/// hclspec as a value tree (the subset that our options need), turned into protobuf by src/plugin. Semantics: the
/// hclspec of Nomad, which maps 1:1 onto hcldec.
struct Schema {
  enum class Kind {
    kObject,     ///< children by name
    kAttr,       ///< name, type ("string", "bool", "number", "list(string)", "list(map(string))"), required
    kBlock,      ///< name, required, nested[0] is an object
    kBlockList,  ///< name, nested[0] is an object
    kDefault,    ///< nested[0] with literal as the default
  };
  Kind kind = Kind::kObject;
  std::string name;
  std::string type;
  bool required = false;
  std::string literal;  ///< HCL expression; strings with their quotes: "\"5m\""
  std::map<std::string, Schema> children;
  std::vector<Schema> nested;
};

Schema plugin_schema();
Schema task_schema();

/// Decodes and validates the object that Nomad sends. Missing keys and nil mean the default; unknown keys are ignored
/// (Nomad has refused them by the schema). Numbers and booleans may come as text, blocks as lists of objects: the agent
/// and Go programs encode them differently.
///   errors  kInvalidArgument naming the option, the value (never a password) and what is allowed
base::Result<PluginOptions> decode_plugin_options(const base::Json& object);
base::Result<TaskOptions> decode_task_options(const base::Json& object);

/// The option reference in Markdown (docs/options.md) and as one JSON document (`containerd-driver schema`).
std::string options_markdown();
base::Json options_json();

}  // namespace driver
