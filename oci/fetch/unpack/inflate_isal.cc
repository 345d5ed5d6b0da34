#include <isa-l/igzip_lib.h>

#include <algorithm>
#include <limits>

#include "oci/fetch/unpack/inflate.h"

namespace oci::fetch {

struct Inflater::Impl {
  inflate_state state;
};

Inflater::Inflater() : impl_(std::make_unique<Impl>()) {
  reset();
}
Inflater::~Inflater() = default;
Inflater::Inflater(Inflater&&) noexcept = default;
Inflater& Inflater::operator=(Inflater&&) noexcept = default;

void Inflater::reset() {
  isal_inflate_init(&impl_->state);
  impl_->state.crc_flag = ISAL_GZIP;  // parse the header, and check length and CRC in the trailer
}

base::Result<Inflater::Step> Inflater::step(std::string_view in, std::span<char> out) {
  constexpr std::size_t kMax = std::numeric_limits<std::uint32_t>::max();
  inflate_state& state = impl_->state;
  const auto in_size = static_cast<std::uint32_t>(std::min(in.size(), kMax));
  const auto out_size = static_cast<std::uint32_t>(std::min(out.size(), kMax));
  state.next_in = reinterpret_cast<std::uint8_t*>(const_cast<char*>(in.data()));  // not written to
  state.avail_in = in_size;
  state.next_out = reinterpret_cast<std::uint8_t*>(out.data());
  state.avail_out = out_size;
  const int rc = isal_inflate(&state);
  Step step{in_size - state.avail_in, out_size - state.avail_out, state.block_state == ISAL_BLOCK_FINISH, false};
  step.corrupt = rc < 0 || (rc != ISAL_DECOMP_OK && rc != ISAL_END_INPUT && rc != ISAL_OUT_OVERFLOW);
  return step;
}

}  // namespace oci::fetch
