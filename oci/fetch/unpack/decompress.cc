#include "oci/fetch/unpack/decompress.h"

#include <zstd.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <utility>

#include "oci/fetch/unpack/inflate.h"

namespace oci::fetch {

namespace {

constexpr std::size_t kInputBytes = 256u << 10;
constexpr std::size_t kOutputBytes = 256u << 10;
/// What zstd may keep of a stream before it waits for its turn; enough for all levels but the "ultra" ones (8 MiB).
constexpr std::size_t kZstdSharedBytesMax = 16u << 20;

/// What has been read from the source and not yet been used.
class Input {
 public:
  Input(ReadBytes source, std::string what) : source_(std::move(source)), what_(std::move(what)) {}
  const std::string& what() const { return what_; }
  std::string_view available() const { return std::string_view(buffer_).substr(start_, end_ - start_); }
  void use(std::size_t bytes) { start_ += bytes; }

  /// Reads until at least `bytes` are available, or the source ends.
  base::Status fill(std::size_t bytes) {
    while (end_ - start_ < bytes && !ended_) {
      if (start_ > 0) {
        std::copy(buffer_.begin() + static_cast<std::ptrdiff_t>(start_),
                  buffer_.begin() + static_cast<std::ptrdiff_t>(end_), buffer_.begin());
        end_ -= std::exchange(start_, 0);
      }
      TRY(const std::size_t size, source_(std::span(buffer_).subspan(end_)));
      end_ += size;
      ended_ = size == 0;
    }
    return {};
  }
  base::Error damaged(std::string_view why) const { return base::Error::data_loss(base::str(what_, " ", why)); }

 private:
  ReadBytes source_;
  std::string what_;
  std::string buffer_ = std::string(kInputBytes, '\0');
  std::size_t start_ = 0;
  std::size_t end_ = 0;
  bool ended_ = false;
};

class Plain : public Decompressor {
 public:
  explicit Plain(Input input) : input_(std::move(input)) {}
  base::Result<std::string_view> next() override {
    input_.use(given_);
    TRY_VOID(input_.fill(1));
    given_ = input_.available().size();
    return input_.available();
  }

 private:
  Input input_;
  std::size_t given_ = 0;
};

// A gzip file is one or more members; pigz, eStargz and others make many.
class Gzip : public Decompressor {
 public:
  explicit Gzip(Input input) : input_(std::move(input)) {}

  base::Result<std::string_view> next() override {
    for (;;) {
      TRY_VOID(input_.fill(1));
      const auto available = input_.available();
      if (available.empty() && !in_member_) return std::string_view();
      if (!in_member_) TRY_VOID(start_member());
      // Also without input: what was taken before may not all have come out yet.
      TRY(const auto step, inflater_.step(input_.available(), output_));
      if (step.corrupt) return input_.damaged("is corrupt: its gzip data cannot be decompressed");
      input_.use(step.consumed);
      in_member_ = !step.member_ended;
      if (step.produced > 0) return std::string_view(output_.data(), step.produced);
      if (in_member_ && available.empty()) return input_.damaged("is cut off in the middle of its gzip data");
    }
  }

 private:
  base::Status start_member() {
    TRY_VOID(input_.fill(2));
    if (!input_.available().starts_with("\x1f\x8b")) return input_.damaged("has garbage after its gzip data");
    inflater_.reset();
    in_member_ = true;
    return {};
  }

  Input input_;
  Inflater inflater_;
  bool in_member_ = false;
  std::string output_ = std::string(kOutputBytes, '\0');
};

class Zstd : public Decompressor {
 public:
  explicit Zstd(Input input) : input_(std::move(input)), stream_(ZSTD_createDStream(), ZSTD_freeDStream) {
    CHECK(stream_ != nullptr);
    ZSTD_DCtx_setParameter(stream_.get(), ZSTD_d_windowLogMax, kZstdWindowLogMax);
  }

  base::Result<std::string_view> next() override {
    for (;;) {
      TRY_VOID(input_.fill(1));
      const auto available = input_.available();
      if (available.empty() && !pending_) {
        if (in_frame_) return input_.damaged("is cut off in the middle of its zstd data");
        return std::string_view();
      }
      ZSTD_inBuffer in{available.data(), available.size(), 0};
      ZSTD_outBuffer out{output_.data(), output_.size(), 0};
      const std::size_t left = ZSTD_decompressStream(stream_.get(), &out, &in);
      if (ZSTD_isError(left) != 0) {
        return input_.damaged(base::str("cannot be decompressed: ", ZSTD_getErrorName(left)));
      }
      if (in.pos == 0 && out.pos == 0 && available.empty()) {
        return input_.damaged("is cut off in the middle of its zstd data");
      }
      wait_for_memory();
      input_.use(in.pos);
      in_frame_ = left != 0;
      pending_ = out.pos == out.size;
      if (out.pos > 0) return std::string_view(output_.data(), out.pos);
    }
  }

 private:
  // A large window is allocated with the frame's header and filled by its content: so many layers with one are
  // decompressed one after the other, until there is only one in memory.
  void wait_for_memory() {
    if (large_.owns_lock() || ZSTD_sizeof_DStream(stream_.get()) <= kZstdSharedBytesMax) return;
    static std::mutex one_at_a_time;
    large_ = std::unique_lock(one_at_a_time);
  }

  Input input_;
  std::unique_lock<std::mutex> large_;  // released after the stream's memory
  std::unique_ptr<ZSTD_DStream, decltype(&ZSTD_freeDStream)> stream_;
  bool in_frame_ = false;
  bool pending_ = false;  // more output may come without more input
  std::string output_ = std::string(kOutputBytes, '\0');
};

bool is_gzip(std::string_view head) {
  return head.starts_with("\x1f\x8b");
}

// A frame, or one of the skippable frames (0x184D2A50 to 5F, little-endian) that zstd:chunked begins with.
bool is_zstd(std::string_view head) {
  return head.starts_with("\x28\xb5\x2f\xfd") ||
         (head.size() >= 4 && (static_cast<unsigned char>(head[0]) & 0xf0) == 0x50 &&
          head.substr(1, 3) == "\x2a\x4d\x18");
}

// The checksum of a tar header: the sum of its bytes, with the checksum field itself counted as spaces.
bool is_tar(std::string_view head) {
  constexpr std::size_t kHeaderBytes = 512;
  constexpr std::size_t kChecksumAt = 148;
  if (head.empty()) return true;  // an empty layer
  if (head.size() < kHeaderBytes) return false;
  head = head.substr(0, kHeaderBytes);
  if (head.find_first_not_of('\0') == std::string_view::npos) return true;  // the end marker of an empty tar
  unsigned sum = 0;
  for (std::size_t i = 0; i < kHeaderBytes; ++i) {
    sum += i >= kChecksumAt && i < kChecksumAt + 8 ? ' ' : static_cast<unsigned char>(head[i]);
  }
  unsigned stated = 0;
  for (const char c : head.substr(kChecksumAt, 8)) {
    if (c >= '0' && c <= '7') stated = stated * 8 + static_cast<unsigned>(c - '0');
  }
  return sum == stated;
}

std::string describe(std::string_view head) {
  constexpr std::string_view kHexDigits = "0123456789abcdef";
  struct Known {
    std::string_view magic;
    std::string_view name;
  };
  constexpr std::array<Known, 6> kKnown = {{{"\xfd\x37zXZ", "xz"},
                                            {"BZh", "bzip2"},
                                            {"PK\x03\x04", "zip"},
                                            {"<!DOCTYPE", "an HTML page"},
                                            {"<html", "an HTML page"},
                                            {"{", "JSON"}}};
  for (const Known& known : kKnown) {
    if (head.starts_with(known.magic)) return std::string(known.name);
  }
  std::string hex;
  for (const char c : head.substr(0, 8)) {
    hex += kHexDigits[static_cast<unsigned char>(c) >> 4];
    hex += kHexDigits[static_cast<unsigned char>(c) & 0xf];
  }
  return base::str("data that starts with 0x", hex);
}

}  // namespace

base::Result<std::unique_ptr<Decompressor>> open_decompressor(ReadBytes source, std::string what) {
  Input input(std::move(source), std::move(what));
  TRY_VOID(input.fill(512));
  const auto head = input.available();
  if (is_gzip(head)) return std::unique_ptr<Decompressor>(std::make_unique<Gzip>(std::move(input)));
  if (is_zstd(head)) return std::unique_ptr<Decompressor>(std::make_unique<Zstd>(std::move(input)));
  if (is_tar(head)) return std::unique_ptr<Decompressor>(std::make_unique<Plain>(std::move(input)));
  return input.damaged(base::str("is not a gzip, zstd or plain tar archive but ", describe(head)));
}

base::Status ExpansionLimit::add(std::uint64_t made, std::uint64_t taken) {
  made_ += made;
  if (made_ <= kExpansionFreeBytes || made_ <= taken * kExpansionMax) return {};
  return base::Error::invalid_argument(base::str("it unpacks to more than ", kExpansionMax, " times its size"));
}

}  // namespace oci::fetch
