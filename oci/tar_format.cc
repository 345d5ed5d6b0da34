#include "oci/tar_format.h"

#include <algorithm>
#include <string_view>

#include "base/result.h"

namespace oci {

using base::str;

namespace {

constexpr std::size_t kBlockBytes = 512;
constexpr std::size_t kNameBytes = 100;               ///< of the fields for names and link targets
constexpr std::uint64_t kSizeMax = (1ull << 33) - 1;  ///< eleven octal digits
constexpr std::uint64_t kNumberMax = (1u << 21) - 1;  ///< seven of them

std::string pax_records(const TarEntry& entry);
std::string key_of(std::string_view name);
std::string pax_record(std::string_view key, std::string_view value);
std::string ustar_block(const TarEntry& entry, char type, std::uint64_t size);
void put_text(std::string& block, std::size_t at, std::string_view text, std::size_t bytes_max);
void put_octal(std::string& block, std::size_t at, std::uint64_t value, std::size_t digits);

}  // namespace

std::string tar_head(const TarEntry& entry) {
  const std::string records = pax_records(entry);
  std::string head;
  if (!records.empty()) {
    TarEntry extended;
    extended.path = "pax";
    extended.mode = 0600;
    head = str(ustar_block(extended, 'x', records.size()), records, tar_padding(records.size()));
  }
  const std::uint64_t size = entry.type == TarType::kFile ? entry.size_bytes : 0;
  return head + ustar_block(entry, static_cast<char>(entry.type), size);
}

std::string tar_padding(std::uint64_t size_bytes) {
  return std::string((kBlockBytes - size_bytes % kBlockBytes) % kBlockBytes, '\0');
}

std::string tar_end() {
  return std::string(2 * kBlockBytes, '\0');
}

namespace {

std::string pax_records(const TarEntry& entry) {
  std::string records;
  if (entry.path.size() > kNameBytes) records += pax_record("path", entry.path);
  if (entry.target.size() > kNameBytes) records += pax_record("linkpath", entry.target);
  if (entry.type == TarType::kFile && entry.size_bytes > kSizeMax) records += pax_record("size", str(entry.size_bytes));
  if (entry.uid > kNumberMax) records += pax_record("uid", str(entry.uid));
  if (entry.gid > kNumberMax) records += pax_record("gid", str(entry.gid));
  if (entry.mtime < 0 || static_cast<std::uint64_t>(entry.mtime) > kSizeMax) {
    records += pax_record("mtime", str(entry.mtime));
  }
  for (const auto& [name, value] : entry.xattrs) records += pax_record(str("SCHILY.xattr.", key_of(name)), value);
  return records;
}

// What would end the key is written out as other programs do.
std::string key_of(std::string_view name) {
  std::string key;
  for (const char c : name) key += c == '=' ? std::string("%3D") : c == '%' ? std::string("%25") : std::string(1, c);
  return key;
}

// "<length of all of this> key=value\n"
std::string pax_record(std::string_view key, std::string_view value) {
  const std::string rest = str(" ", key, "=", value, "\n");
  std::size_t length = rest.size() + 1;
  while (std::to_string(length).size() + rest.size() != length) ++length;
  return str(length, rest);
}

// What does not fit stands in the records, which win.
std::string ustar_block(const TarEntry& entry, char type, std::uint64_t size) {
  const auto fitting = [](std::uint64_t value, std::uint64_t most) { return value > most ? 0 : value; };
  std::string block(kBlockBytes, '\0');
  put_text(block, 0, entry.path, kNameBytes);
  put_octal(block, 100, entry.mode & 07777U, 7);
  put_octal(block, 108, fitting(entry.uid, kNumberMax), 7);
  put_octal(block, 116, fitting(entry.gid, kNumberMax), 7);
  put_octal(block, 124, fitting(size, kSizeMax), 11);
  put_octal(block, 136, entry.mtime < 0 ? 0 : fitting(static_cast<std::uint64_t>(entry.mtime), kSizeMax), 11);
  put_text(block, 148, "        ", 8);  // what the checksum is made over
  block[156] = type;
  put_text(block, 157, entry.target, kNameBytes);
  put_text(block, 257, std::string_view("ustar\00000", 8), 8);
  put_octal(block, 329, fitting(entry.device_major, kNumberMax), 7);
  put_octal(block, 337, fitting(entry.device_minor, kNumberMax), 7);
  std::uint64_t sum = 0;
  for (const char c : block) sum += static_cast<unsigned char>(c);
  put_octal(block, 148, sum, 6);
  block[154] = '\0';
  return block;
}

void put_text(std::string& block, std::size_t at, std::string_view text, std::size_t bytes_max) {
  text.substr(0, bytes_max).copy(block.data() + at, bytes_max);
}

void put_octal(std::string& block, std::size_t at, std::uint64_t value, std::size_t digits) {
  for (std::size_t i = digits; i > 0; --i, value /= 8) block[at + i - 1] = static_cast<char>('0' + value % 8);
}

}  // namespace
}  // namespace oci
