#include "cni/debt.h"

#include <unistd.h>

#include <cerrno>

#include "base/dir.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/json.h"
#include "base/process.h"
#include "base/text.h"
#include "cni/lock.h"
#include "cni/netns.h"
#include "cni/rules.h"

namespace cni {

namespace {

using base::Code;
using base::Context;
using base::Error;
using base::Json;
using base::Result;
using base::Status;
using base::str;

constexpr std::size_t kDebtBytesMax = 2u << 20;
constexpr std::size_t kBootBytes = 8;
constexpr int kFolderTriesMax = 10;
constexpr std::string_view kEnding = ".json";

std::string this_boot_head();
Json json_of(const Debt& debt);
Result<Debt> debt_of(const std::string& path);

}  // namespace

bool Debt::this_boot() const {
  return boot == this_boot_head();
}

Status Ledger::owe(const Debt& debt) const {
  TRY_VOID(check_attachment(debt.attachment));
  Debt dated = debt;
  if (dated.boot.empty()) dated.boot = this_boot_head();
  // The first one has to outlive a power cut; that its result is lost with one does no harm.
  const auto durable = debt.result_text.empty() ? base::Durable::kYes : base::Durable::kNo;
  Status written;
  // There is no folder while nothing is owed: it may just go with the last debt.
  for (int tries = 1; tries <= kFolderTriesMax; ++tries) {
    TRY_VOID(base::make_dirs(dir_, 0700));
    written = base::write_file_atomic(path_of(dated), base::dump_json(json_of(dated)), 0600, durable);
    if (written || written.error().code != Code::kNotFound) break;
  }
  if (!written) return std::move(written).error().wrap("writing down what is owed to the network");
  return {};
}

Result<std::vector<Owed>> Ledger::of_container(const std::string& container_id) const {
  return matching(container_id);
}

Result<std::vector<Owed>> Ledger::all() const {
  return matching("");
}

Status Ledger::pay(const Context& ctx, const Debt& debt, const std::string& own_netns) const {
  // Who ends a container and who removes it come at the same time: the second finds it paid.
  const std::string locks = debt.runtime.cache_dir + "/.owed.lock";
  TRY(const base::Fd lock, lock_name(ctx, locks, debt.attachment.container_id, Share::kExclusive));
  const std::string path = path_of(debt);
  if (::access(path.c_str(), F_OK) != 0 && errno == ENOENT) return {};
  TRY(const NetworkList list, parse_list(debt.list_text, str("what is owed to network ", debt.network)));
  Attachment attachment = debt.attachment;
  TRY(const bool there, is_netns(attachment.netns));
  if (!debt.this_boot() || !there) attachment.netns.clear();
  // An interface that is gone before its DEL takes with it what plugins know their rules by.
  const bool complete = !attachment.netns.empty() && has_interface(attachment.netns, attachment.ifname).value_or(false);
  TRY_VOID(Runtime(debt.runtime).del(ctx, list, attachment, debt.result_text));
  if (!complete) TRY_VOID(remove_forgotten_rules(ctx, list.name, attachment.container_id));
  FAULT_POINT("cni.del.done");
  if (!own_netns.empty()) TRY_VOID(remove_netns(own_netns));
  FAULT_POINT("cni.netns.removed");
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return Error::from_errno(errno, str("removing ", path));
  ::rmdir(dir_.c_str());  // unless more is owed
  return {};
}

Result<std::vector<Owed>> Ledger::matching(const std::string& container_id) const {
  std::vector<Owed> found;
  auto names = base::list_dir(dir_);
  if (!names && names.error().code == Code::kNotFound) return found;
  if (!names) return std::move(names).error().wrap("looking for what is owed to networks");
  for (const std::string& name : *names) {
    const auto parts = base::split(name, ':');
    if (parts.size() != 3 || !name.ends_with(kEnding) || !is_name(parts[1])) continue;
    if (!container_id.empty() && parts[1] != container_id) continue;
    auto debt = debt_of(str(dir_, "/", name));
    if (!debt && debt.error().code == Code::kNotFound) continue;  // paid meanwhile
    if (debt) debt->boot = parts[0];
    if (debt && debt->attachment.container_id != parts[1]) {
      debt = Error::data_loss(str(dir_, "/", name, " is of another container"));
    }
    found.push_back({std::string(parts[1]), std::move(debt)});
  }
  return found;
}

std::string Ledger::path_of(const Debt& debt) const {
  return str(dir_, "/", debt.boot, ":", debt.attachment.container_id, ":", debt.attachment.ifname, kEnding);
}

namespace {

std::string this_boot_head() {
  return base::boot_id().substr(0, kBootBytes);
}

Json json_of(const Debt& debt) {
  const Attachment& attachment = debt.attachment;
  Json args = Json::array();
  for (const auto& [key, value] : attachment.args) args.push_back({key, value});
  return {{"version", 1},
          {"network", debt.network},
          {"list", debt.list_text},
          {"container_id", attachment.container_id},
          {"ifname", attachment.ifname},
          {"netns", attachment.netns},
          {"args", std::move(args)},
          {"capability_args", capability_args(attachment.supplied)},
          {"plugin_dirs", debt.runtime.plugin_dirs},
          {"cache_dir", debt.runtime.cache_dir},
          {"result", debt.result_text}};
}

Result<Debt> debt_of(const std::string& path) {
  TRY(const std::string text, base::read_file(path, kDebtBytesMax));
  const auto damaged = [&](std::string_view why) { return Error::data_loss(str(path, " is damaged: ", why)); };
  const auto object = base::parse_json(text, path);
  if (!object) return damaged(object.error().message);
  Debt debt;
  for (const auto& [key, into] : {std::pair{"network", &debt.network},
                                  {"list", &debt.list_text},
                                  {"container_id", &debt.attachment.container_id},
                                  {"ifname", &debt.attachment.ifname},
                                  {"netns", &debt.attachment.netns},
                                  {"cache_dir", &debt.runtime.cache_dir},
                                  {"result", &debt.result_text}}) {
    auto value = base::require_string(*object, key);
    if (!value) return damaged(value.error().message);
    *into = *std::move(value);
  }
  auto dirs = base::get_string_list(*object, "plugin_dirs");
  if (!dirs || !*dirs) return damaged("it has no plugin_dirs");
  debt.runtime.plugin_dirs = **std::move(dirs);
  const auto args = base::get_array(*object, "args");
  if (args && *args != nullptr) {
    for (const Json& each : **args) {
      if (!each.is_array() || each.size() != 2 || !each[0].is_string() || !each[1].is_string()) {
        return damaged("its args are not pairs of texts");
      }
      debt.attachment.args.emplace_back(each[0].get<std::string>(), each[1].get<std::string>());
    }
  }
  const auto capabilities = base::get_object(*object, "capability_args");
  if (!capabilities || *capabilities == nullptr) return damaged("it has no capability_args");
  auto supplied = parse_capability_args(**capabilities);
  if (!supplied) return damaged(supplied.error().message);
  debt.attachment.supplied = *std::move(supplied);
  if (auto valid = check_attachment(debt.attachment); !valid) return damaged(valid.error().message);
  return debt;
}

}  // namespace
}  // namespace cni
