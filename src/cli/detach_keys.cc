#include "cli/detach_keys.h"

#include "base/text.h"

namespace cli {

using base::Error;
using base::Result;
using base::str;

Result<DetachKeys> DetachKeys::parse(const std::string& text) {
  constexpr std::string_view kControl = "ctrl-";
  constexpr std::string_view kSigns = "@[\\]^_";
  DetachKeys keys;
  if (text.empty()) return keys;
  for (const std::string_view key : base::split(text, ',')) {
    const char last = key.empty() ? '\0' : key.back();
    const bool controllable = (last >= 'a' && last <= 'z') || kSigns.find(last) != std::string_view::npos;
    if (key.size() == 1 && last > ' ' && last < '\x7f') {
      keys.keys_ += last;
    } else if (key.size() == kControl.size() + 1 && key.starts_with(kControl) && controllable) {
      keys.keys_ += static_cast<char>(last & 0x1f);
    } else {
      return Error::invalid_argument(
          str("--detach-keys ", text, ": \"", key, "\" is not a key: write ctrl-p,ctrl-q, or single characters"));
    }
  }
  return keys;
}

std::string DetachKeys::pass(std::string_view typed) {
  std::string passed;
  for (const char c : typed) {
    if (detached_) break;
    // What was kept back and does not go on goes to the container, but for an end of it that begins the keys anew.
    std::string kept = keys_.substr(0, matched_) + c;
    while (!kept.empty() && !keys_.starts_with(kept)) {
      passed += kept.front();
      kept.erase(0, 1);
    }
    matched_ = kept.size();
    detached_ = matched_ > 0 && matched_ == keys_.size();
  }
  return passed;
}

}  // namespace cli
