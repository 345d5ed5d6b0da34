// Names of images: more of them, and fewer. What they lead to is neither copied nor removed.
#include <algorithm>
#include <set>

#include "cli/verb.h"
#include "oci/reference.h"
#include "oci/store.h"

namespace cli {

using base::Error;
using base::Result;
using base::Status;
using base::str;

namespace {

constexpr std::chrono::minutes kEditTimeout{1};

struct Names {
  oci::ImageRecord image;
  std::vector<std::string> names;  // canonical
};

/// The image, and the names behind it, of `tag` and `untag`.
Result<Names> read_names(const Globals& globals, oci::Store& store, const std::vector<std::string>& args);
Status check_unused(const Globals& globals, const std::vector<std::string>& names);
Status check_kept(const std::vector<oci::ImageRecord>& records, const Names& given);

}  // namespace

int tag_command(const Verb& self, Call& call) {
  Flags flags;
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (args->size() < 2) return misuse(self, call.io, Error::invalid_argument("name an image, and its new names"));
  oci::Store store(call.globals.options().data_dir);
  const auto ctx = base::Context::background().with_timeout(kEditTimeout);
  const auto given = read_names(call.globals, store, *args);
  if (!given) return fail(call.io, given.error(), kExitMisuse);
  const auto lease = store.lease(ctx, oci::Store::Lease::kShared);  // or a collection takes the image meanwhile
  if (!lease) return fail(call.io, lease.error(), kExitMisuse);
  const auto whole = store.load(given->image);
  if (!whole) return fail(call.io, whole.error(), kExitMisuse);
  for (const std::string& name : given->names) {
    oci::ImageRecord record = given->image;
    record.reference = name;
    if (name != given->image.reference) {
      record.verdict.reset();  // verifiers approve content under a name
      record.pinned = false;
    }
    if (auto put = store.put_record(ctx, record); !put) return fail(call.io, put.error(), kExitMisuse);
  }
  return kExitOk;
}

int untag_command(const Verb& self, Call& call) {
  Flags flags;
  int exit_code = kExitOk;
  const auto args = parse_flags(self, call, flags, Flags::Stop::kNever, exit_code);
  if (!args) return exit_code;
  if (args->size() < 2) {
    return misuse(self, call.io,
                  Error::invalid_argument("name an image, and which of its names to take: an image without a name is "
                                          "not kept, `rmi` removes it"));
  }
  oci::Store store(call.globals.options().data_dir);
  const auto given = read_names(call.globals, store, *args);
  if (!given) return fail(call.io, given.error(), kExitMisuse);
  if (auto unused = check_unused(call.globals, given->names); !unused) {
    return fail(call.io, unused.error(), kExitMisuse);
  }
  const auto ctx = base::Context::background().with_timeout(kEditTimeout);
  const auto kept = [&given](const std::vector<oci::ImageRecord>& records) { return check_kept(records, *given); };
  const auto removed = store.remove_records(ctx, given->names, kept);
  return removed ? kExitOk : fail(call.io, removed.error(), kExitMisuse);
}

namespace {

Result<Names> read_names(const Globals& globals, oci::Store& store, const std::vector<std::string>& args) {
  oci::Images images({.data_dir = globals.options().data_dir, .helper = ""});
  TRY(const std::string image, find_image(images, args.front()));
  TRY(auto record, store.record(image));
  Names given{std::move(record), {}};
  for (auto arg = args.begin() + 1; arg != args.end(); ++arg) {
    TRY(const auto name, oci::Reference::parse(*arg));
    // Whoever asks for a digest gets what has it, not what somebody has called so.
    if (name.digest()) {
      return Error::invalid_argument(str("\"", *arg,
                                         "\" is a name by digest, which follows from what is pulled: give "
                                         "one with a tag"));
    }
    given.names.push_back(name.canonical());
  }
  return given;
}

Status check_kept(const std::vector<oci::ImageRecord>& records, const Names& given) {
  std::set<std::string> left;
  for (const oci::ImageRecord& record : records) {
    if (record.manifest_digest == given.image.manifest_digest) left.insert(record.reference);
  }
  for (const std::string& name : given.names) {
    if (!left.contains(name) && std::count(given.names.begin(), given.names.end(), name) == 1) {
      return Error::not_found(str("image ", given.image.reference, " has no name ", name));
    }
    left.erase(name);
  }
  if (!left.empty()) return {};
  return Error::failed_precondition(
      str("image ", given.image.reference, " would have no name left, and is not kept without one: `rmi` removes it"));
}

// A container finds its image by the name that it was made with when it is started again.
Status check_unused(const Globals& globals, const std::vector<std::string>& names) {
  TRY(const auto session, open_driver(globals));
  TRY(const auto containers, list_containers(session->driver));
  for (const Container& container : containers) {
    const auto image = oci::Reference::parse(attribute(container.task, "image"));
    if (!image || std::find(names.begin(), names.end(), image->canonical()) == names.end()) continue;
    return Error::failed_precondition(
        str("container ", name_of(container), " was made of ", image->canonical(), ": remove that first"));
  }
  return {};
}

}  // namespace
}  // namespace cli
