// Whose turn it is to start. A start is some 50 ms of other programs' work (the shim's, the runtime's): a hundred at
// once would each take as long as all of them together, and starve the tasks beside them. So a few run at a time, in
// the order in which they came, and half of them are through in half of the time.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <utility>

#include "base/context.h"
#include "base/result.h"
#include "base/sync.h"

namespace driver {

/// threads  any
class Turns {
 public:
  static constexpr std::size_t kStartsPerCore = 4;  ///< one computes while others wait for the kernel
  /// One that takes longer waits for something (a program that hangs, a disk), and keeps nobody else back.
  static constexpr std::chrono::seconds kTurnMax{5};

  explicit Turns(std::size_t at_once = starts_of_this_node()) : at_once_(at_once) {}
  /// 0 = as many as serve this node.
  void set_at_once(std::size_t at_once) { at_once_ = at_once == 0 ? starts_of_this_node() : at_once; }

  /// Over when it is destroyed.
  class Turn {
   public:
    Turn(Turn&& other) noexcept : turns_(std::exchange(other.turns_, nullptr)), number_(other.number_) {}
    Turn& operator=(Turn&&) = delete;
    ~Turn() {
      if (turns_ != nullptr) turns_->leave(number_);
    }

   private:
    friend class Turns;
    Turn(Turns* turns, std::uint64_t number) : turns_(turns), number_(number) {}
    Turns* turns_;
    std::uint64_t number_;
  };

  /// Waits for the turn of a start.
  ///   errors  kCancelled, kDeadlineExceeded: ctx ended before
  base::Result<Turn> wait_for_start(const base::Context& ctx);
  /// The turn of what never waits, as somebody waits for it who is in a hurry: commands in tasks, removals. Starts that
  /// wait let it pass.
  Turn urgent();

 private:
  struct Waiting {
    std::uint64_t number;
    base::OneShot<bool> go;
  };
  struct State {
    std::uint64_t last_number = 0;
    std::map<std::uint64_t, base::Deadline> running;  ///< number → when it counts no more
    std::deque<Waiting> waiting;
  };
  static std::size_t starts_of_this_node();
  void let_in(State& state) const;
  void leave(std::uint64_t number);
  /// Takes back who waits; false if its turn has come already.
  bool withdraw(std::uint64_t number);

  std::atomic<std::size_t> at_once_;
  base::Guarded<State> state_;
};

}  // namespace driver
