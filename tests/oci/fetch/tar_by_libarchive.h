// What libarchive returns of a tar stream behind TarHeaders, as the unpack stage sets them up.
#pragma once

#include <archive.h>
#include <archive_entry.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "oci/fetch/unpack/tar_headers.h"
#include "tests/oci/fetch/tar_reading.h"

namespace tests {

struct TarStream {
  oci::fetch::TarHeaders& headers;
  static la_ssize_t read(archive*, void* self, const void** buffer) {
    const auto piece = static_cast<TarStream*>(self)->headers.next();
    if (!piece) return -1;
    *buffer = piece->data();
    return static_cast<la_ssize_t>(piece->size());
  }
};

/// nullopt if it fails. `pieces` bytes at a time come from the source.
inline std::optional<std::vector<TarSeen>> entries_by_libarchive(std::string_view tar, std::size_t pieces) {
  const oci::fetch::ReadTar source = [&tar, pieces]() -> base::Result<std::string_view> {
    const auto out = tar.substr(0, pieces);
    tar.remove_prefix(out.size());
    return out;
  };
  oci::fetch::TarHeaders headers(source);
  TarStream stream{headers};
  const std::unique_ptr<archive, decltype(&archive_read_free)> reader(archive_read_new(), archive_read_free);
  archive* const a = reader.get();
  archive_read_support_format_tar(a);
  archive_read_support_format_empty(a);
  if (archive_read_open(a, &stream, nullptr, TarStream::read, nullptr) != ARCHIVE_OK) return std::nullopt;
  std::vector<TarSeen> out;
  for (;;) {
    archive_entry* entry = nullptr;
    const int status = archive_read_next_header(a, &entry);
    if (status == ARCHIVE_EOF) return out;
    if (status != ARCHIVE_OK && status != ARCHIVE_WARN) return std::nullopt;
    TarSeen seen;
    const auto text = [](const char* value) { return std::string(value == nullptr ? "" : value); };
    seen.name = text(archive_entry_pathname(entry));
    const auto type = archive_entry_filetype(entry);
    if (archive_entry_hardlink(entry) != nullptr) {
      seen.type = '1';
      seen.link = text(archive_entry_hardlink(entry));
    } else {
      seen.type = type == AE_IFLNK   ? '2'
                  : type == AE_IFCHR ? '3'
                  : type == AE_IFBLK ? '4'
                  : type == AE_IFDIR ? '5'
                  : type == AE_IFIFO ? '6'
                                     : '0';
      if (seen.type == '2') seen.link = text(archive_entry_symlink(entry));
    }
    char bytes[4096];
    for (la_ssize_t size; (size = archive_read_data(a, bytes, sizeof bytes)) != 0;) {
      if (size < 0) return std::nullopt;
      seen.content.append(bytes, static_cast<std::size_t>(size));
    }
    out.push_back(std::move(seen));
  }
}

}  // namespace tests
