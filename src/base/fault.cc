#include "base/fault.h"

#ifdef CD_FAULT_POINTS

#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <deque>
#include <string>
#include <string_view>
#include <thread>

namespace base {

namespace {
struct Rule {
  std::string point;
  int nth = 1;
  std::string action;
  std::string argument;
  std::atomic<int> passed{0};
};

struct ErrnoName {
  std::string_view name;
  int number;
};
constexpr std::array<ErrnoName, 9> kErrnos{{{"EIO", EIO},
                                            {"ENOSPC", ENOSPC},
                                            {"EROFS", EROFS},
                                            {"EMFILE", EMFILE},
                                            {"EAGAIN", EAGAIN},
                                            {"ENOMEM", ENOMEM},
                                            {"EINTR", EINTR},
                                            {"ETIMEDOUT", ETIMEDOUT},
                                            {"ECONNRESET", ECONNRESET}}};

// point:n*action(argument)
void parse_rule(std::string_view text, std::deque<Rule>& rules) {
  const auto colon = text.find(':');
  const auto star = text.find('*');
  if (colon == std::string_view::npos || star == std::string_view::npos || star < colon) return;
  Rule& rule = rules.emplace_back();
  rule.point = text.substr(0, colon);
  std::from_chars(text.data() + colon + 1, text.data() + star, rule.nth);
  std::string_view action = text.substr(star + 1);
  if (const auto open = action.find('('); open != std::string_view::npos) {
    rule.argument = action.substr(open + 1, action.find(')') - open - 1);
    action = action.substr(0, open);
  }
  rule.action = action;
}

std::deque<Rule>& rules() {
  static std::deque<Rule> parsed = [] {
    std::deque<Rule> out;
    const char* env = std::getenv("FAULT");
    std::string_view rest = env != nullptr ? env : "";
    while (!rest.empty()) {
      const auto comma = rest.find(',');
      parse_rule(rest.substr(0, comma), out);
      if (comma == std::string_view::npos) break;
      rest.remove_prefix(comma + 1);
    }
    return out;
  }();
  return parsed;
}
}  // namespace

Status fault_point(const char* name) {
  for (Rule& rule : rules()) {
    if (rule.point != name || ++rule.passed != rule.nth) continue;
    if (rule.action == "kill") ::kill(::getpid(), SIGKILL);
    if (rule.action == "delay")
      std::this_thread::sleep_for(std::chrono::milliseconds(std::atoi(rule.argument.c_str())));
    if (rule.action == "error") {
      for (const ErrnoName& entry : kErrnos) {
        if (entry.name == rule.argument) return Error::from_errno(entry.number, str("injected at ", name));
      }
    }
  }
  return {};
}

}  // namespace base

#endif
