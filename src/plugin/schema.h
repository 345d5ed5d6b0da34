// The driver's option schema as the agent's hclspec.
#pragma once

#include "driver/options/config.h"

namespace nomad::hclspec {
class Spec;
}

namespace plugin {

/// Every Attr and Block gets its name written out, implied or not: inside Default and Block there is no implied name,
/// and elsewhere it does no harm. A schema without a type or a child is our own bug (CHECK).
nomad::hclspec::Spec to_spec(const driver::Schema& schema);

}  // namespace plugin
