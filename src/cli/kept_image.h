// The image that a container of the command line was made from: what the container has written lies over it, and fits
// no other, whatever its name means by now.
//
// disk     Once the name means another image, index.json gets a name by digest for the old one. Its content is there
// for
//          as long as the container is, and the name goes with the first collection after that.
#pragma once

#include <string>

#include "base/context.h"
#include "base/result.h"
#include "cli/definition.h"

namespace cli {

/// Notes in `definition` the name and the digest of what `options.image` means now. An archive has neither.
void note_image(const std::string& data_dir, const driver::TaskOptions& options, Definition& definition);

/// Makes `options.image` name what the container was made from.
///   errors  as Store::put_record
base::Status use_noted_image(const base::Context& ctx, const std::string& data_dir, const Definition& definition,
                             driver::TaskOptions& options);

}  // namespace cli
