// "user[:group]" NUL passwd NUL group. A user that resolves has numbers in range and the primary group first.
#include <cstdlib>

#include "driver/files/user.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t first = std::min(input.find('\0'), size);
  const std::string_view files = input.substr(std::min(first + 1, size));
  const std::size_t second = std::min(files.find('\0'), files.size());
  const auto user = driver::resolve_user_in(std::string(input.substr(0, first)), files.substr(0, second),
                                            files.substr(std::min(second + 1, files.size())));
  if (!user) {
    if (user.error().message.empty()) std::abort();
    return 0;
  }
  constexpr std::uint32_t kIdMax = 0x7fffffff;
  if (user->uid > kIdMax || user->gid > kIdMax) std::abort();
  if (user->additional_gids.empty() || user->additional_gids.front() != user->gid) std::abort();
  return 0;
}
