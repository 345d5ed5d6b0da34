// The members of an image's documents that others leave out, leave empty or write as null, and what is taken then: the
// one place that decides. A member of another type is an error everywhere; tests/oci/members_test.cc has the table.
// What Docker and containerd take is taken; a digest, a size or a config that is missing is never made up. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "base/result.h"
#include "oci/platform.h"

namespace oci {

/// A text; absent and null are "". kInvalidArgument for another type, or with a NUL in it: that would end the string
/// early at the kernel's door, so that what was checked is not what is run.
base::Result<std::string> text_in(const base::Json& object, std::string_view key);

enum class OneText { kRefused, kAllowed };
/// A list of texts, of which null is ""; absent and null are the empty list. Docker reads one text for Cmd and
/// Entrypoint, too.
base::Result<std::vector<std::string>> texts_in(const base::Json& object, std::string_view key,
                                                OneText one = OneText::kRefused);

/// What "os", "architecture" and "variant" of a config or of an index entry say, normalized. No os is Linux: nothing
/// else was there when tools did not write it. An empty architecture stays so: it fits whatever is asked for, if
/// nothing better is offered.
base::Result<Platform> platform_in(const base::Json& object);

/// "schemaVersion": absent, null and 0 are 2, as the media types that are read here exist only for that; 1 and others
/// are what they are.
base::Result<std::int64_t> schema_version_in(const base::Json& document);

/// "rootfs.type": absent, null and "" are "layers".
base::Result<std::string> rootfs_type_in(const base::Json& rootfs);

/// Types of a config that mean an image although they do not say so: what old registries and tools gave it.
bool is_untold_config_type(std::string_view media_type);

}  // namespace oci
