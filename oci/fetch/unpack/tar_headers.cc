#include "oci/fetch/unpack/tar_headers.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

namespace oci::fetch {

namespace {

constexpr std::size_t kBlockBytes = 512;

/// A field of the header: where it begins, and how many bytes it has.
struct Field {
  std::size_t at;
  std::size_t size;
};
constexpr Field kName{0, 100};
constexpr Field kSize{124, 12};
constexpr Field kChecksum{148, 8};
constexpr std::size_t kType = 156;
constexpr Field kGnuMagic{257, 8};
constexpr Field kGnuSparse{386, 109};  // the map, whether it goes on, and the size with holes
constexpr std::size_t kGnuSparseGoesOn = 482;
constexpr std::size_t kSparseBlockGoesOn = 504;

std::string_view text_of(std::string_view block, const Field& field) {
  const std::string_view bytes = block.substr(field.at, field.size);
  return bytes.substr(0, bytes.find('\0'));
}
bool is_zeros(std::string_view block) {
  return block.find_first_not_of('\0') == std::string_view::npos;
}
bool is_gnu(std::string_view block) {
  return block.substr(kGnuMagic.at, kGnuMagic.size) == std::string_view("ustar  \0", 8);
}
std::uint64_t padded(std::uint64_t size) {
  return (size + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
}

std::int64_t number(std::string_view field);
struct Sums {
  std::int64_t as_unsigned = 0;
  std::int64_t as_signed = 0;
};
Sums sums_of(std::string_view block);
bool has_valid_checksum(std::string_view block);
void set_checksum(char* block);
bool has_no_body(char type, std::string_view name);

/// What pax records say that matters here. The last of a key counts.
struct PaxSays {
  std::optional<std::int64_t> size;
  std::optional<Field> path;  // where its value is
};
PaxSays read_pax(std::string_view records);
void forget(char* records, std::size_t bytes, bool (*is_meant)(std::string_view key));
bool tells_size(std::string_view key);
void cut_slashes(char* name, std::size_t bytes);

base::Error damaged(std::string_view why) {
  return base::Error::data_loss(base::str("the tar archive is damaged: ", why));
}

}  // namespace

base::Result<std::string_view> TarHeaders::next() {
  if (std::exchange(released_, false)) {
    held_.clear();
    block_at_ = 0;
  }
  for (;;) {
    if (piece_.empty()) {
      TRY(piece_, read_());
      if (piece_.empty()) return release();  // of an entry that is cut off, or of zeros
    }
    if (at_end_) return pass(piece_.size());
    if (body_left_ > 0 && expect_ != Expect::kSparseMap) {
      const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(body_left_, piece_.size()));
      body_left_ -= size;
      return pass(size);
    }
    if (!gather()) continue;
    TRY(const bool complete, take_block());
    if (complete) return release();
  }
}

/// False if more of the source is needed.
bool TarHeaders::gather() {
  const std::size_t wanted = block_bytes_ - (held_.size() - block_at_);
  const std::size_t size = std::min(wanted, piece_.size());
  held_.append(piece_.substr(0, size));
  piece_.remove_prefix(size);
  return size == wanted;
}

std::string_view TarHeaders::pass(std::size_t size) {
  const std::string_view out = piece_.substr(0, size);
  piece_.remove_prefix(size);
  return out;
}

std::string_view TarHeaders::release() {
  released_ = true;
  return held_;
}

/// True if what is held can be passed on.
base::Result<bool> TarHeaders::take_block() {
  switch (expect_) {
    case Expect::kHeader:
      return take_header();
    case Expect::kExtension:
      take_extension();
      break;
    case Expect::kSparseMap:
      if (held_[block_at_ + kSparseBlockGoesOn] == '\0') expect_ = Expect::kHeader;
      return true;
    case Expect::kSecondZeros: {
      const std::string_view block = std::string_view(held_).substr(block_at_);
      if (!is_zeros(block) && has_valid_checksum(block)) return damaged("entries follow a block of zeros");
      at_end_ = true;
      return true;
    }
  }
  expect_ = Expect::kHeader;
  block_at_ = held_.size();
  block_bytes_ = kBlockBytes;
  return false;
}

void TarHeaders::take_extension() {
  const auto size = static_cast<std::size_t>(extension_bytes_);
  if (extension_type_ == 'x' || extension_type_ == 'X') {
    // Of several, the last counts; some versions of libarchive would take them together.
    forget(held_.data() + extensions_.pax_at, extensions_.pax_bytes, [](std::string_view) { return true; });
    extensions_.pax_at = block_at_;
    extensions_.pax_bytes = size;
  } else if (extension_type_ == 'L') {
    extensions_.name_at = block_at_;
    extensions_.name_bytes = size;
  }
}

base::Result<bool> TarHeaders::take_header() {
  const std::string_view header = std::string_view(held_).substr(block_at_);
  if (is_zeros(header)) {
    expect_ = Expect::kSecondZeros;
    block_at_ = held_.size();
    return false;
  }
  if (!has_valid_checksum(header)) {  // libarchive will say so
    at_end_ = true;
    return true;
  }
  const char type = header[kType];
  const std::int64_t size = number(header.substr(kSize.at, kSize.size));
  if (size < 0) return damaged("a header has a negative size");
  if (std::string_view("xXgKLAV").find(type) == std::string_view::npos) return take_entry(header);
  // "V", the name of the archive, has no body, and is no entry.
  extension_bytes_ = type == 'V' ? 0 : static_cast<std::uint64_t>(size);
  if (extension_bytes_ > kTarExtensionBytesMax) {  // libarchive refuses it
    at_end_ = true;
    return true;
  }
  if (held_.size() + extension_bytes_ > kTarExtensionsBytesMax) {
    return base::Error::invalid_argument(
        base::str("more than ", kTarExtensionsBytesMax >> 20, " MiB of pax records and names stand before an entry"));
  }
  extension_type_ = type;
  expect_ = Expect::kExtension;
  block_at_ = held_.size();
  block_bytes_ = static_cast<std::size_t>(padded(extension_bytes_));
  if (block_bytes_ > 0) return false;
  return take_block();
}

/// The header of an entry itself is there, behind its extensions.
base::Result<bool> TarHeaders::take_entry(std::string_view header) {
  const auto extensions = std::exchange(extensions_, {});
  const PaxSays pax = read_pax(std::string_view(held_).substr(extensions.pax_at, extensions.pax_bytes));
  Field name_field{block_at_ + kName.at, kName.size};
  if (extensions.name_bytes > 0) name_field = {extensions.name_at, extensions.name_bytes};
  if (pax.path) name_field = {extensions.pax_at + pax.path->at, pax.path->size};
  const std::string_view name = text_of(held_, name_field);
  const char type = header[kType];
  const bool bodiless = has_no_body(type, name);
  const std::int64_t size = pax.size.value_or(number(header.substr(kSize.at, kSize.size)));
  if (size < 0) return damaged("pax records have a negative size");
  if (size > std::numeric_limits<std::int64_t>::max() - static_cast<std::int64_t>(kBlockBytes)) {
    return damaged("a header has a size that is out of range");
  }
  const bool is_sparse = type == 'S' && is_gnu(header) && header[kGnuSparse.at] != '\0';
  const bool goes_on = is_sparse && header[kGnuSparseGoesOn] != '\0';

  char* const block = held_.data() + block_at_;
  if (type == '0') cut_slashes(held_.data() + name_field.at, name.size());
  if (bodiless) {
    forget(held_.data() + extensions.pax_at, extensions.pax_bytes, tells_size);
    std::memcpy(block + kSize.at, "00000000000", kSize.size);
  }
  if (type != 'S' && is_gnu(header)) std::memset(block + kGnuSparse.at, 0, kGnuSparse.size);
  if (!has_valid_checksum(header)) set_checksum(block);
  body_left_ = bodiless ? 0 : padded(static_cast<std::uint64_t>(size));
  // The rest of the map comes block by block, before the body: body_left_ waits for it.
  expect_ = goes_on ? Expect::kSparseMap : Expect::kHeader;
  block_bytes_ = kBlockBytes;
  return true;
}

namespace {

/// As libarchive reads it, whose idea of where a body ends counts: octal up to the first byte that is no digit, or
/// base 256 in two's complement, behind a first bit of 1.
std::int64_t number(std::string_view field) {
  constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
  if ((static_cast<unsigned char>(field.front()) & 0x80) != 0) {
    const bool negative = (static_cast<unsigned char>(field.front()) & 0x40) != 0;
    std::int64_t value = negative ? -1 : 0;
    for (std::size_t i = 0; i < field.size(); ++i) {
      auto byte = static_cast<unsigned char>(field[i]);
      if (i == 0) byte = negative ? byte | 0x80 : byte & 0x3f;
      if (value > kMax >> 8) return kMax;
      if (value < -(kMax >> 8)) return -kMax;
      value = value * 256 + byte;
    }
    return value;
  }
  const auto first = std::min(field.find_first_not_of(" \t"), field.size());
  field.remove_prefix(first);
  const bool negative = field.starts_with('-');
  if (negative) field.remove_prefix(1);
  std::int64_t value = 0;
  for (const char c : field) {
    if (c < '0' || c > '7') break;
    if (value > kMax >> 3) return negative ? -kMax : kMax;
    value = value * 8 + (c - '0');
  }
  return negative ? -value : value;
}

// Over unsigned bytes, as is the rule; old tars took signed ones.
Sums sums_of(std::string_view block) {
  Sums out;
  for (std::size_t i = 0; i < kBlockBytes; ++i) {
    const char c = i >= kChecksum.at && i < kChecksum.at + kChecksum.size ? ' ' : block[i];
    out.as_unsigned += static_cast<unsigned char>(c);
    out.as_signed += static_cast<signed char>(c);
  }
  return out;
}

bool has_valid_checksum(std::string_view block) {
  const std::string_view field = block.substr(kChecksum.at, kChecksum.size);
  if (field.find_first_not_of(std::string_view(" \00001234567", 10)) != std::string_view::npos) return false;
  const Sums sums = sums_of(block);
  const std::int64_t stated = number(field);
  return stated == sums.as_unsigned || stated == sums.as_signed;
}

void set_checksum(char* block) {
  char* const field = block + kChecksum.at;
  auto sum = static_cast<unsigned>(sums_of(std::string_view(block, kBlockBytes)).as_unsigned);
  field[7] = ' ';
  for (std::size_t i = 6; i-- > 0; sum >>= 3) field[i] = static_cast<char>('0' + (sum & 7));
  field[6] = '\0';
}

// Links, devices, folders and FIFOs. Before there was a type for folders, a name that ended in "/" was one.
bool has_no_body(char type, std::string_view name) {
  return (type >= '1' && type <= '6') || (type == '\0' && name.ends_with('/'));
}

/// One record, "18 comment=hello!\n". nullopt at their end, or where they are malformed.
struct PaxRecord {
  std::string_view key;
  std::string_view value;
  std::size_t key_at = 0;
  std::size_t value_at = 0;
};
std::optional<PaxRecord> next_record(std::string_view records, std::size_t& at) {
  std::size_t length = 0;
  std::size_t i = at;
  for (; i < records.size() && records[i] >= '0' && records[i] <= '9'; ++i) {
    length = length * 10 + static_cast<std::size_t>(records[i] - '0');
    if (length > records.size()) return std::nullopt;
  }
  if (i == at || i >= records.size() || records[i] != ' ' || length > records.size() - at) return std::nullopt;
  if (length < i + 2 - at || records[at + length - 1] != '\n') return std::nullopt;
  const std::string_view body = records.substr(i + 1, at + length - 1 - (i + 1));
  const auto equals = body.find('=');
  if (equals == std::string_view::npos || equals == 0) return std::nullopt;
  at += length;
  return PaxRecord{body.substr(0, equals), body.substr(equals + 1), i + 1, i + 1 + equals + 1};
}

std::int64_t decimal(std::string_view text) {
  constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  std::int64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') break;
    if (value > (kMax - 9) / 10) return negative ? -kMax : kMax;
    value = value * 10 + (c - '0');
  }
  return negative ? -value : value;
}

PaxSays read_pax(std::string_view records) {
  PaxSays out;
  for (std::size_t at = 0; const auto record = next_record(records, at);) {
    if (record->key == "size") out.size = decimal(record->value);
    if (record->key == "path") out.path = Field{record->value_at, record->value.size()};
  }
  return out;
}

/// Under another name, of the same length, a record means nothing to anybody.
void forget(char* records, std::size_t bytes, bool (*is_meant)(std::string_view key)) {
  const std::string_view text(records, bytes);
  for (std::size_t at = 0; const auto record = next_record(text, at);) {
    if (is_meant(record->key)) records[record->key_at] = '-';
  }
}

// "." and the root stay what they are.
void cut_slashes(char* name, std::size_t bytes) {
  const std::string_view text(name, bytes);
  const auto last = text.find_last_not_of('/');
  if (last == std::string_view::npos || text.substr(0, last + 1) == ".") return;
  std::memset(name + last + 1, 0, bytes - last - 1);
}

bool tells_size(std::string_view key) {
  return key == "size" || key == "SCHILY.realsize" || key.starts_with("GNU.sparse.");
}

}  // namespace

}  // namespace oci::fetch
