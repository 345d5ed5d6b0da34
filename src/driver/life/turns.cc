#include "driver/life/turns.h"

#include <algorithm>
#include <thread>

namespace driver {

using base::Context;
using base::Result;

namespace {
constexpr std::chrono::milliseconds kLookEvery{500};  // for turns that have become too long meanwhile
}  // namespace

Result<Turns::Turn> Turns::wait_for_start(const Context& ctx) {
  Waiting own;
  {
    auto state = state_.lock();
    own.number = ++state->last_number;
    state->waiting.push_back(own);
    let_in(*state);
  }
  while (!own.go.wait(ctx.with_timeout(kLookEvery))) {
    if (auto over = ctx.check(); !over) {
      if (!withdraw(own.number)) leave(own.number);
      return std::move(over).error();
    }
    let_in(*state_.lock());
  }
  return Turn(this, own.number);
}

Turns::Turn Turns::urgent() {
  auto state = state_.lock();
  const std::uint64_t number = ++state->last_number;
  state->running.emplace(number, base::Clock::now() + kTurnMax);
  return {this, number};
}

std::size_t Turns::starts_of_this_node() {
  return kStartsPerCore * std::max(1u, std::thread::hardware_concurrency());
}

void Turns::let_in(State& state) const {
  const auto now = base::Clock::now();
  while (!state.waiting.empty()) {
    if (state.running.size() >= at_once_)
      std::erase_if(state.running, [now](const auto& turn) { return turn.second <= now; });
    if (state.running.size() >= at_once_) return;
    state.running.emplace(state.waiting.front().number, now + kTurnMax);
    state.waiting.front().go.set(true);
    state.waiting.pop_front();
  }
}

void Turns::leave(std::uint64_t number) {
  auto state = state_.lock();
  state->running.erase(number);
  let_in(*state);
}

bool Turns::withdraw(std::uint64_t number) {
  auto state = state_.lock();
  return std::erase_if(state->waiting, [number](const Waiting& one) { return one.number == number; }) > 0;
}

}  // namespace driver
