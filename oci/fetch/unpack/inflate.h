// One gzip member at a time: ISA-L where the build has it, else zlib.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "base/result.h"

namespace oci::fetch {

class Inflater {
 public:
  Inflater();
  ~Inflater();
  Inflater(Inflater&&) noexcept;
  Inflater& operator=(Inflater&&) noexcept;

  struct Step {
    std::size_t consumed = 0;
    std::size_t produced = 0;
    bool member_ended = false;  ///< header, data and trailer are done and right
    bool corrupt = false;
  };
  /// Decompresses from `in` (may be empty: earlier input may have output left) to `out` as far as both allow.
  base::Result<Step> step(std::string_view in, std::span<char> out);
  /// Ready for the next member.
  void reset();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace oci::fetch
