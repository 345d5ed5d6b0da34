#include "driver/image/collection.h"

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

}  // namespace driver
