#include "cni/runtime.h"

#include <algorithm>

#include "base/fault.h"
#include "cni/lock.h"

namespace cni {

using base::Context;
using base::Error;
using base::Result;
using base::Status;
using base::str;

struct Runtime::Locks {
  base::Fd network;
  base::Fd container;
};

namespace {

bool is_null(std::string_view text);

}  // namespace

Runtime::Runtime(RuntimeOptions options)
    : options_(std::move(options)), plugins_(options_.plugin_dirs), cache_(options_.cache_dir) {}

Result<AddResult> Runtime::add(const Context& caller, const NetworkList& list, const Attachment& attachment,
                               const OnStep& on_step) const {
  const Context ctx = caller.with_timeout(options_.add_timeout);
  TRY_VOID(check_attachment(attachment));
  TRY(const Locks locks, lock(ctx, list, attachment));
  auto known = cache_.read(list.name, attachment);
  if (known && *known) {
    return Error::already_exists(str("network ", list.name, ": container ", attachment.container_id,
                                     " is attached to it already, at ", attachment.ifname));
  }
  AddResult result;
  std::string previous;
  for (const PluginConf& plugin : list.plugins) {
    TRY(const std::string printed, run(ctx, {list, plugin, &attachment, previous, nullptr}, Command::kAdd, locks));
    FAULT_POINT("cni.add.ran");
    if (is_null(printed)) continue;  // has nothing to say: the result stays the one before it
    auto parsed = parse_result(printed, list.version);
    if (!parsed) {
      return std::move(parsed).error().wrap(str("network ", list.name, ": plugin ", plugin.type, ": ADD"));
    }
    result = *std::move(parsed);
    previous = result_text(result, list.version);
    if (on_step) TRY_VOID(on_step(result));
  }
  if (previous.empty()) previous = result_text(result, list.version);
  TRY_VOID(cache_.write({list.name, attachment, list.text, previous}));
  return result;
}

Status Runtime::del(const Context& caller, const NetworkList& list, const Attachment& attachment,
                    const std::string& known_result) const {
  const Context ctx = caller.with_timeout(options_.del_timeout);
  TRY_VOID(check_attachment(attachment));
  TRY(const Locks locks, lock(ctx, list, attachment));
  return del_locked(ctx, list, attachment, locks, known_result);
}

Status Runtime::check(const Context& caller, const NetworkList& list, const Attachment& attachment) const {
  const Context ctx = caller.with_timeout(options_.add_timeout);
  TRY_VOID(check_attachment(attachment));
  if (list.version < kCheckSince) {
    return Error::failed_precondition(
        str("network ", list.name, " is of version ", list.version.text(), ", which has no CHECK: use 0.4.0 or later"));
  }
  if (list.disable_check) return {};
  TRY(const Locks locks, lock(ctx, list, attachment));
  TRY(const auto cached, cache_.read(list.name, attachment));
  if (!cached) {
    return Error::failed_precondition(
        str("network ", list.name, ": container ", attachment.container_id, " is not attached to it"));
  }
  TRY(const AddResult result, parse_result(cached->result_text, list.version));
  const std::string previous = result_text(result, list.version);
  for (const PluginConf& plugin : list.plugins) {
    TRY_VOID(run(ctx, {list, plugin, &attachment, previous, nullptr}, Command::kCheck, locks));
  }
  return {};
}

Status Runtime::gc(const Context& caller, const NetworkList& list, const std::vector<Attachment>& valid) const {
  const Context ctx = caller.with_timeout(options_.add_timeout);
  if (list.version < kGcSince) {
    return Error::failed_precondition(
        str("network ", list.name, " is of version ", list.version.text(), ", which has no GC: use 1.1.0"));
  }
  if (list.disable_gc) return {};
  Locks locks;
  TRY(locks.network, lock_name(ctx, cache_.dir() + "/.networks.lock", list.name, Share::kExclusive));
  Status first;
  const auto note = [&first](Status status) {
    if (!status && first) first = std::move(status);
  };
  TRY(const auto cached, cache_.of_network(list.name));
  for (const CachedResult& entry : cached) {
    const auto same = [&](const Attachment& one) {
      return one.container_id == entry.attachment.container_id && one.ifname == entry.attachment.ifname;
    };
    if (std::any_of(valid.begin(), valid.end(), same)) continue;
    note(del_locked(ctx, list, entry.attachment, locks, ""));
  }
  for (const PluginConf& plugin : list.plugins) {
    auto ran = run(ctx, {list, plugin, nullptr, {}, &valid}, Command::kGc, locks);
    if (!ran) note(std::move(ran).error());
  }
  return first;
}

Status Runtime::status(const Context& caller, const NetworkList& list) const {
  if (list.version < kGcSince) return {};
  const Context ctx = caller.with_timeout(options_.del_timeout);
  for (const PluginConf& plugin : list.plugins) {
    TRY_VOID(run(ctx, {list, plugin, nullptr, {}, nullptr}, Command::kStatus, {}));
  }
  return {};
}

Result<std::vector<std::string>> Runtime::versions(const Context& caller, const std::string& type) const {
  const Context ctx = caller.with_timeout(options_.del_timeout);
  const std::string input = str("{\"cniVersion\":\"", kNewest.text(), "\"}");
  auto printed = plugins_.run(ctx, {Command::kVersion, type, nullptr, input, {}});
  if (!printed) return std::move(printed).error().wrap(str("plugin ", type, ": VERSION"));
  auto parsed = parse_versions(*printed);
  if (!parsed) return std::move(parsed).error().wrap(str("plugin ", type));
  return parsed;
}

Status Runtime::validate(const Context& ctx, const NetworkList& list) const {
  for (const PluginConf& plugin : list.plugins) {
    TRY(const auto spoken, versions(ctx, plugin.type));
    if (std::find(spoken.begin(), spoken.end(), list.version.text()) != spoken.end()) continue;
    return Error::failed_precondition(str("network ", list.name, " is of version ", list.version.text(),
                                          ", which its plugin ", plugin.type, " does not speak: use ", spoken.back()));
  }
  return {};
}

Result<Runtime::Locks> Runtime::lock(const Context& ctx, const NetworkList& list, const Attachment& attachment) const {
  CHECK(is_name(list.name));
  Locks locks;
  TRY(locks.container,
      lock_name(ctx, cache_.dir() + "/.containers.lock", attachment.container_id, Share::kExclusive));
  TRY(locks.network, lock_name(ctx, cache_.dir() + "/.networks.lock", list.name, Share::kShared));
  return locks;
}

Result<std::string> Runtime::run(const Context& ctx, const PluginInput& input, Command command,
                                 const Locks& locks) const {
  const std::string text = input_text(input);
  PluginCall call{command, input.plugin.type, input.attachment, text, {}};
  for (const base::Fd* fd : {&locks.network, &locks.container}) {
    if (*fd) call.held_fds.push_back(fd->get());
  }
  auto printed = plugins_.run(ctx, call);
  if (printed) return printed;
  return std::move(printed).error().wrap(
      str("network ", input.list.name, ": plugin ", input.plugin.type, ": ", command_name(command)));
}

Status Runtime::del_locked(const Context& ctx, const NetworkList& list, const Attachment& attachment,
                           const Locks& locks, const std::string& known_result) const {
  const std::string previous = prev_result_for_del(list, attachment, known_result);
  Status first;
  for (auto plugin = list.plugins.rbegin(); plugin != list.plugins.rend(); ++plugin) {
    // One that hangs leaves time to those that hold the addresses.
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(ctx.remaining());
    const Context own = plugin + 1 == list.plugins.rend() || !ctx.has_deadline() ? ctx : ctx.with_timeout(left / 2);
    auto ran = run(own, {list, *plugin, &attachment, previous, nullptr}, Command::kDel, locks);
    FAULT_POINT("cni.del.ran");
    if (ran) continue;
    if (first) first = std::move(ran).error();
  }
  if (!first) return first;
  return cache_.remove(list.name, attachment);
}

// What cannot be read is no reason to keep an address.
std::string Runtime::prev_result_for_del(const NetworkList& list, const Attachment& attachment,
                                         const std::string& known_result) const {
  if (list.version < kCheckSince) return "";
  const auto cached = cache_.read(list.name, attachment);
  const bool usable = cached && *cached;
  if (!usable && known_result.empty()) return "";
  const auto result = usable ? parse_result((*cached)->result_text, list.version) : parse_result(known_result, kNewest);
  return result ? result_text(*result, list.version) : "";
}

namespace {

bool is_null(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) return false;
  return text.substr(begin, text.find_last_not_of(" \t\r\n") + 1 - begin) == "null";
}

}  // namespace
}  // namespace cni
