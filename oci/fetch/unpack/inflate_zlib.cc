#include <zlib.h>

#include <algorithm>
#include <limits>

#include "oci/fetch/unpack/inflate.h"

namespace oci::fetch {

struct Inflater::Impl {
  z_stream stream{};
  Impl() { CHECK(inflateInit2(&stream, MAX_WBITS + 16) == Z_OK); }  // + 16: gzip header and trailer
  ~Impl() { inflateEnd(&stream); }
};

Inflater::Inflater() : impl_(std::make_unique<Impl>()) {}
Inflater::~Inflater() = default;
Inflater::Inflater(Inflater&&) noexcept = default;
Inflater& Inflater::operator=(Inflater&&) noexcept = default;

void Inflater::reset() {
  CHECK(inflateReset(&impl_->stream) == Z_OK);
}

base::Result<Inflater::Step> Inflater::step(std::string_view in, std::span<char> out) {
  constexpr std::size_t kMax = std::numeric_limits<uInt>::max();
  z_stream& stream = impl_->stream;
  const auto in_size = static_cast<uInt>(std::min(in.size(), kMax));
  const auto out_size = static_cast<uInt>(std::min(out.size(), kMax));
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));  // not written to
  stream.avail_in = in_size;
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = out_size;
  const int rc = inflate(&stream, Z_NO_FLUSH);
  if (rc == Z_MEM_ERROR) return base::Error::resource_exhausted("inflate: out of memory");
  return Step{in_size - stream.avail_in, out_size - stream.avail_out, rc == Z_STREAM_END,
              rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR};
}

}  // namespace oci::fetch
