// The keys that end an `attach` and leave the container running.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/result.h"

namespace cli {

/// What a person types on its way to a container: looks for the keys in it, wherever a read has cut it.
/// threads  one at a time
class DetachKeys {
 public:
  static constexpr const char* kDefault = "ctrl-p,ctrl-q";

  /// "ctrl-p,ctrl-q", "ctrl-@,x": single characters, or ctrl- and one of a-z @ [ \ ] ^ _, with commas between. "" =
  /// none.
  ///   errors  kInvalidArgument
  static base::Result<DetachKeys> parse(const std::string& text);

  /// What of it goes on to the container. Keys that may begin the sequence are kept back until it is known whether they
  /// do.
  std::string pass(std::string_view typed);
  /// The keys have come; nothing goes on any more.
  bool detached() const { return detached_; }

 private:
  std::string keys_;
  std::size_t matched_ = 0;
  bool detached_ = false;
};

}  // namespace cli
