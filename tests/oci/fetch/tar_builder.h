// Tar archives byte by byte, so that they can be as wrong as a test wants.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <optional>
#include <string>

namespace tests {

struct TarEntry {
  std::string name;
  char type = '0';  ///< '0' file '1' hard link '2' symlink '3' char '4' block '5' directory '6' FIFO
  std::string content;
  std::string link;
  unsigned mode = 0644;
  std::uint64_t uid = 0;
  std::uint64_t gid = 0;
  std::int64_t mtime = 1'700'000'000;
  unsigned major = 0;
  unsigned minor = 0;
  bool gnu = false;                                ///< GNU's magic, else POSIX's
  std::optional<std::uint64_t> claimed_size = {};  ///< in the header, whatever the content has
  std::map<std::string, std::string> pax;          ///< "path", "SCHILY.xattr.user.x", …
};

class TarBuilder {
 public:
  TarBuilder& add(const TarEntry& entry) {
    if (!entry.pax.empty()) {
      std::string records;
      for (const auto& [key, value] : entry.pax) records += pax_record(key, value);
      TarEntry header;
      header.name = "PaxHeader";
      header.type = 'x';
      header.content = records;
      append(header);
    }
    append(entry);
    added_.insert_or_assign(entry.name, entry);
    return *this;
  }
  TarBuilder& dir(const std::string& name, unsigned mode = 0755, std::uint64_t uid = 0) {
    TarEntry entry;
    entry.name = name;
    entry.type = '5';
    entry.mode = mode;
    entry.uid = uid;
    return add(entry);
  }
  TarBuilder& file(const std::string& name, const std::string& content = "", unsigned mode = 0644) {
    TarEntry entry;
    entry.name = name;
    entry.content = content;
    entry.mode = mode;
    return add(entry);
  }
  TarBuilder& symlink(const std::string& name, const std::string& target) { return link_entry(name, target, '2'); }
  /// With the attributes of the target, if this tar has it, as tars have them.
  TarBuilder& hardlink(const std::string& name, const std::string& target) {
    TarEntry entry;
    const std::string plain = target.starts_with("./") ? target.substr(2) : target;
    if (const auto known = added_.find(plain); known != added_.end()) entry = known->second;
    entry.name = name;
    entry.type = '1';
    entry.content.clear();
    entry.pax.erase("size");
    entry.link = target;
    return add(entry);
  }
  TarBuilder& node(const std::string& name, char type, unsigned major, unsigned minor) {
    TarEntry entry;
    entry.name = name;
    entry.type = type;
    entry.major = major;
    entry.minor = minor;
    return add(entry);
  }
  TarBuilder& raw(const std::string& bytes) {
    out_ += bytes;
    return *this;
  }
  /// With the two blocks of zeros that end an archive.
  std::string done() const { return out_ + std::string(1024, '\0'); }
  const std::string& without_end() const { return out_; }

 private:
  TarBuilder& link_entry(const std::string& name, const std::string& target, char type) {
    TarEntry entry;
    entry.name = name;
    entry.type = type;
    entry.link = target;
    entry.mode = 0777;
    return add(entry);
  }
  static std::string pax_record(const std::string& key, const std::string& value) {
    const std::string rest = " " + key + "=" + value + "\n";
    std::size_t size = rest.size() + 1;
    while (std::to_string(size).size() + rest.size() != size) size = std::to_string(size).size() + rest.size();
    return std::to_string(size) + rest;
  }
  void append(const TarEntry& entry) {
    char header[512] = {};
    std::memcpy(header, entry.name.data(), std::min<std::size_t>(entry.name.size(), 100));
    octal(header + 100, 8, entry.mode);
    octal(header + 108, 8, entry.uid);
    octal(header + 116, 8, entry.gid);
    octal(header + 124, 12, entry.claimed_size.value_or(entry.content.size()));
    octal(header + 136, 12, static_cast<std::uint64_t>(entry.mtime));
    header[156] = entry.type;
    std::memcpy(header + 157, entry.link.data(), std::min<std::size_t>(entry.link.size(), 100));
    std::memcpy(header + 257, entry.gnu ? "ustar  \0" : "ustar\00000", 8);
    octal(header + 329, 8, entry.major);
    octal(header + 337, 8, entry.minor);
    std::memset(header + 148, ' ', 8);
    unsigned sum = 0;
    for (const char c : header) sum += static_cast<unsigned char>(c);
    octal(header + 148, 7, sum);
    out_.append(header, sizeof header);
    out_ += entry.content;
    out_.append((512 - entry.content.size() % 512) % 512, '\0');
  }
  static void octal(char* field, std::size_t width, std::uint64_t value) {
    for (std::size_t i = width - 1; i-- > 0;) {
      field[i] = static_cast<char>('0' + (value & 7));
      value >>= 3;
    }
    field[width - 1] = '\0';
  }
  std::string out_;
  std::map<std::string, TarEntry> added_;
};

}  // namespace tests
