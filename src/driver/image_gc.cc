#include "driver/image_gc.h"

#include "driver/record.h"

namespace driver {

oci::GcRequest gc_request(const ImageGcOptions& options, std::uint64_t room_bytes) {
  using std::chrono::duration_cast;
  using std::chrono::seconds;
  oci::GcRequest request;
  request.policy.store_bytes_max = options.max_size;
  request.policy.high_percent = static_cast<int>(options.high_percent);
  request.policy.low_percent = static_cast<int>(options.low_percent);
  if (options.unused_for) request.policy.unused_max = duration_cast<seconds>(*options.unused_for);
  request.policy.keep_at_least = duration_cast<seconds>(options.keep_for);
  request.policy.pins = options.keep;
  request.room_bytes = room_bytes;
  return request;
}

std::vector<oci::GcUse> images_in_use(const std::string& data_dir) {
  std::vector<oci::GcUse> uses;
  for (const std::string& dir : list_task_dirs(data_dir)) {
    const auto record = read_record(dir);
    if (!record || record->layer_dirs.empty()) continue;
    uses.push_back({{record->layer_dirs.begin(), record->layer_dirs.end()},
                    record->image_digest,
                    base::str("container ", record->names.container_id)});
  }
  return uses;
}

}  // namespace driver
