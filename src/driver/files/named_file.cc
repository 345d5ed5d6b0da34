#include "driver/files/named_file.h"

#include <fcntl.h>

#include "base/file.h"

namespace driver {

using base::Error;
using base::Result;
using base::str;

Result<std::string> read_named_file(const std::string& path, std::size_t bytes_max) {
  const auto found = base::open_file(path, O_PATH);
  if (!found && found.error().sys_errno == ENOENT) return Error::not_found("it does not exist on this node");
  if (!found) return Error::from_errno(found.error().sys_errno, "it cannot be opened");
  TRY(const base::Fd file, base::open_named(*found, base::FileKind::kFile, O_RDONLY));
  auto text = base::read_file(str("/proc/self/fd/", file.get()), bytes_max);
  if (!text && text.error().code == base::Code::kResourceExhausted && text.error().sys_errno == 0) {
    return Error::resource_exhausted(str("it is larger than ", bytes_max, " bytes"));
  }
  return text;
}

}  // namespace driver
