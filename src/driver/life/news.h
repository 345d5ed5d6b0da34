// What was said last to a task's author. Nomad keeps ten events of a task: one that is restarted again and again must
// not fill them with what it was told the first time.
#pragma once

#include <cstddef>
#include <map>
#include <string>

#include "base/sync.h"
#include "driver/values/task_spec.h"

namespace driver {

/// threads  any
class News {
 public:
  enum class Heard { kFirst, kSame, kChanged };

  /// Whether `text` is what was said last of `subject` to this task of this allocation, whatever its invocation. After
  /// many tasks it begins anew: the price is a repetition.
  Heard hear(const TaskSpec& spec, const std::string& subject, const std::string& text);

 private:
  base::Guarded<std::map<std::string, std::size_t>> said_;  ///< "<alloc>/<task>/<subject>" → hash of the text
};

}  // namespace driver
