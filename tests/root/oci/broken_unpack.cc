// An unpacker as one must not write it: paths are joined as strings, symlinks are followed, no name is looked at.
// Linked into an image helper in place of oci/fetch/unpack/unpack.cc it stands for a parser that has been taken over;
// the sandbox around it is what test_sandbox.py looks at.
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>

#include "oci/fetch/unpack/unpack.h"

namespace {

la_ssize_t on_read(archive*, void* data, const void** buffer) {
  const auto piece = (*static_cast<const oci::fetch::ReadTar*>(data))();
  if (!piece) return -1;
  *buffer = piece->data();
  return static_cast<la_ssize_t>(piece->size());
}

std::string join(const std::string& root, const std::string& name) {
  return name.starts_with('/') ? name : root + "/" + name;
}

void write_file(archive* a, const std::string& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return;
  archive_read_data_into_fd(a, fd);
  ::close(fd);
}

void make(archive* a, archive_entry* entry, const std::string& root) {
  const std::string path = join(root, archive_entry_pathname(entry));
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  [[maybe_unused]] int done = 0;
  if (const char* target = archive_entry_hardlink(entry)) {
    done = ::link(join(root, target).c_str(), path.c_str());
  } else if (archive_entry_filetype(entry) == AE_IFLNK) {
    done = ::symlink(archive_entry_symlink(entry), path.c_str());
  } else if (archive_entry_filetype(entry) == AE_IFDIR) {
    done = ::mkdir(path.c_str(), 0755);
  } else if (archive_entry_filetype(entry) == AE_IFREG) {
    write_file(a, path);
  } else {
    done = ::mknod(path.c_str(), archive_entry_mode(entry), archive_entry_rdev(entry));
  }
  if (archive_entry_hardlink(entry) == nullptr && archive_entry_filetype(entry) != AE_IFLNK) {
    done = ::chown(path.c_str(), static_cast<uid_t>(archive_entry_uid(entry)),
                   static_cast<gid_t>(archive_entry_gid(entry)));
    done = ::chmod(path.c_str(), archive_entry_perm(entry));
  }
}

}  // namespace

namespace oci::fetch {

base::Result<LayerTodo> unpack_layer(const base::Context&, const ReadTar& read, Rootfs& rootfs, const UnpackLimits&) {
  const std::string root = std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(rootfs.fd())).string();
  const std::unique_ptr<archive, decltype(&archive_read_free)> a(archive_read_new(), archive_read_free);
  archive_read_support_format_tar(a.get());
  if (archive_read_open(a.get(), const_cast<ReadTar*>(&read), nullptr, on_read, nullptr) == ARCHIVE_OK) {
    archive_entry* entry = nullptr;
    while (archive_read_next_header(a.get(), &entry) == ARCHIVE_OK) make(a.get(), entry, root);
  }
  for (;;) {  // for the diff id
    TRY(const auto rest, read());
    if (rest.empty()) return LayerTodo{};
  }
}

}  // namespace oci::fetch
