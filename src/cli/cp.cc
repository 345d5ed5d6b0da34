// Files from a container to the host, and back.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "base/file.h"
#include "cli/copy_tree.h"
#include "cli/verb.h"

namespace cli {

using base::Context;
using base::Error;
using base::Fd;
using base::Result;
using base::Status;
using base::str;

namespace {

/// "web:/etc/hosts", or a path of the host.
struct Place {
  std::string container;  ///< "" = the host
  std::string path;
};

/// One side: where its paths start from, and the path as it was given.
struct Side {
  Fd root;
  std::string path;
};

/// What a path leads to: an entry of a folder.
struct Source {
  Fd folder;
  std::string name;      ///< of the entry; "" = what is in the folder
  std::string own_name;  ///< what it is called where it goes into a folder
};

Place parse_place(const std::string& text);
Result<Side> open_side(driver::Driver& driver, const std::vector<Container>& all, const Place& place);
Result<Fd> open_root(const driver::Driver& driver, const Container& container);
Result<Source> find_source(const Side& side);
Status copy_to(const Context& ctx, const Source& source, const Side& side, const CopyOptions& options);
Status copy_to_new_name(const Context& ctx, const Source& source, const Side& side, const CopyOptions& options);
Status copy_onto_file(const Context& ctx, const Source& source, const Side& side);
std::string without_end(std::string path);

}  // namespace

int cp_command(const Verb& self, Call& call) {
  Flags flags;
  bool archive = false;
  bool quiet = false;
  flags.toggle("archive", 'a', "keep the owners of files", archive);
  flags.toggle("quiet", 'q', "say nothing of what is left out", quiet);
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (args->size() != 2) return misuse(self, call.io, Error::invalid_argument("name a source and a target"));
  const Place from = parse_place((*args)[0]);
  const Place to = parse_place((*args)[1]);
  if (from.container.empty() == to.container.empty()) {
    return misuse(
        self, call.io,
        Error::invalid_argument("one of both has to be in a container, and one on the host: write CONTAINER:PATH"));
  }
  const auto session = open_driver(call.globals);
  if (!session) return fail(call.io, session.error(), kExitRunFailure);
  driver::Driver& driver = (*session)->driver;
  const auto copy = [&]() -> Status {
    TRY(const auto all, list_containers(driver));
    TRY(const Side from_side, open_side(driver, all, from));
    TRY(const Side to_side, open_side(driver, all, to));
    TRY(const Source source, find_source(from_side));
    CopyOptions options{.keep_owner = archive, .on_skipped = {}};
    if (!quiet) {
      options.on_skipped = [&](const std::string& what) {
        print_note(call.io, str(what, " is a socket or a device, and left out"));
      };
    }
    return copy_to(Context::background(), source, to_side, options);
  };
  const auto copied = copy();
  return copied ? kExitOk : fail(call.io, copied.error(), kExitRunFailure);
}

namespace {

// As docker has it: what begins like a path is one, whatever colons follow.
Place parse_place(const std::string& text) {
  const std::size_t colon = text.find(':');
  if (colon == std::string::npos || colon == 0 || text.front() == '/' || text.front() == '.') return {"", text};
  return {text.substr(0, colon), text.substr(colon + 1)};
}

Result<Side> open_side(driver::Driver& driver, const std::vector<Container>& all, const Place& place) {
  Side side;
  if (place.path.empty()) return Error::invalid_argument("a path is empty: write / for all of it");
  if (place.container.empty()) {
    TRY(side.root, base::open_dir("/"));
    TRY(side.path, base::absolute_path("."));
    side.path = place.path.front() == '/' ? place.path : str(side.path, "/", place.path);
    return side;
  }
  TRY(const Container container, find_container(all, place.container));
  TRY(side.root, open_root(driver, container));
  side.path = "/" + place.path;
  return side;
}

// Of a running container what it sees itself, its mounts among it; of one that has ended its own file system.
Result<Fd> open_root(const driver::Driver& driver, const Container& container) {
  if (container.task.state == driver::TaskState::kRunning) {
    return base::open_file(str("/proc/", attribute(container.task, "pid"), "/root"), O_PATH | O_DIRECTORY);
  }
  return open_rootfs(*driver.options(), container);
}

Result<Source> find_source(const Side& side) {
  const std::string path = without_end(side.path);
  const std::filesystem::path parts(path);
  const bool content = side.path.ends_with("/.") || path == "/" || path.ends_with("/..");
  Source source;
  source.own_name = parts.filename().string();
  if (content || side.path.ends_with('/')) {
    TRY(source.folder, base::open_in_root(side.root.get(), path, O_RDONLY | O_DIRECTORY));
    if (content) return source;
  }
  // The entry itself: a link is copied as what it is.
  source.name = source.own_name;
  TRY(source.folder, base::open_in_root(side.root.get(), parts.parent_path().string(), O_RDONLY | O_DIRECTORY));
  struct stat info {};
  if (::fstatat(source.folder.get(), source.name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
    return Error::from_errno(errno, path);
  }
  return source;
}

Status copy_to(const Context& ctx, const Source& source, const Side& side, const CopyOptions& options) {
  auto found = base::open_in_root(side.root.get(), side.path, O_PATH);
  if (!found && found.error().sys_errno == ENOENT) return copy_to_new_name(ctx, source, side, options);
  if (!found) return std::move(found).error();
  struct stat info {};
  if (::fstat(found->get(), &info) != 0) return Error::from_errno(errno, side.path);
  if (!S_ISDIR(info.st_mode)) return copy_onto_file(ctx, source, side);
  TRY(const Fd folder, base::open_in_root(side.root.get(), side.path, O_RDONLY | O_DIRECTORY));
  if (source.name.empty()) return copy_content(ctx, source.folder.get(), folder.get(), options);
  return copy_tree(ctx, source.folder.get(), source.name, folder.get(), source.own_name, options);
}

Status copy_to_new_name(const Context& ctx, const Source& source, const Side& side, const CopyOptions& options) {
  const std::filesystem::path parts(without_end(side.path));
  const std::string name = parts.filename().string();
  TRY(const Fd parent, base::open_in_root(side.root.get(), parts.parent_path().string(), O_RDONLY | O_DIRECTORY));
  if (source.name.empty()) {
    if (::mkdirat(parent.get(), name.c_str(), 0755) != 0) return Error::from_errno(errno, side.path);
    TRY(const Fd folder, base::open_at(parent.get(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    return copy_content(ctx, source.folder.get(), folder.get(), options);
  }
  struct stat info {};
  if (::fstatat(source.folder.get(), source.name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
    return Error::from_errno(errno, source.name);
  }
  if (side.path.ends_with('/') && !S_ISDIR(info.st_mode)) {
    return Error::not_found(str("there is no folder ", side.path));
  }
  return copy_tree(ctx, source.folder.get(), source.name, parent.get(), name, options);
}

// A link there is followed to the file that it names on its side.
Status copy_onto_file(const Context& ctx, const Source& source, const Side& side) {
  const auto refused = [&] {
    return Error::invalid_argument(str("a folder cannot become ", side.path, ", which is there and is no folder"));
  };
  if (source.name.empty()) return refused();
  const auto from = base::open_at(source.folder.get(), source.name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  struct stat info {};
  if (!from) return Error(from.error());
  if (::fstat(from->get(), &info) != 0) return Error::from_errno(errno, source.name);
  if (!S_ISREG(info.st_mode)) return refused();
  TRY(const Fd to, base::open_in_root(side.root.get(), side.path, O_WRONLY | O_NONBLOCK));
  struct stat target {};
  if (::fstat(to.get(), &target) != 0) return Error::from_errno(errno, side.path);
  if (!S_ISREG(target.st_mode)) return Error::invalid_argument(str(side.path, " is not a file"));
  return copy_file_content(ctx, from->get(), to.get());
}

// "/a/b/", "/a/b/." → "/a/b"
std::string without_end(std::string path) {
  for (;;) {
    if (path.size() > 1 && path.ends_with('/')) {
      path.pop_back();
    } else if (path.size() > 2 && path.ends_with("/.")) {
      path.resize(path.size() - 2);
    } else {
      return path.empty() ? "/" : path;
    }
  }
}

}  // namespace
}  // namespace cli
