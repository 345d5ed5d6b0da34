// The one place where `doctor` looks at the node. Changes nothing, and starts no container.
#pragma once

#include "base/context.h"
#include "cli/doctor/diagnose.h"
#include "driver/values/options.h"

namespace cli {

/// What cannot be looked at is told in the facts: there is always an answer.
///   blocks  until ctx ends, for the programs that are asked for their version
NodeFacts gather_facts(const base::Context& ctx, const driver::PluginOptions& options);

}  // namespace cli
