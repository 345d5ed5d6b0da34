#include "driver/life/news.h"

#include <functional>

namespace driver {

namespace {
constexpr std::size_t kSubjectsMax = 20'000;  // some 3 MiB
}  // namespace

News::Heard News::hear(const TaskSpec& spec, const std::string& subject, const std::string& text) {
  const std::string key = base::str(spec.alloc_id, "/", spec.name, "/", subject);
  const std::size_t hash = std::hash<std::string>()(text);
  auto said = said_.lock();
  if (said->size() >= kSubjectsMax) said->clear();
  const auto [entry, is_new] = said->emplace(key, hash);
  if (is_new) return Heard::kFirst;
  if (entry->second == hash) return Heard::kSame;
  entry->second = hash;
  return Heard::kChanged;
}

}  // namespace driver
