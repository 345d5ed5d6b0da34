#include "driver/net/networks.h"

#include <algorithm>

#include "base/fault.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "cni/debt.h"
#include "cni/directory.h"
#include "cni/lock.h"
#include "cni/netns.h"
#include "driver/net/bridge.h"
#include "driver/net/bridge_rules.h"
#include "driver/net/ports.h"

namespace driver {

namespace {

using base::Context;
using base::Error;
using base::Result;
using base::Status;
using base::str;

constexpr char kBridge[] = "bridge";
constexpr std::string_view kNamed = "cni/";
constexpr std::chrono::seconds kGiveBackTime{20};  ///< of what a teardown has for all

cni::Ledger ledger_of(const std::string& data_dir);
std::vector<std::string> folders(const std::string& colon_list);
Result<cni::NetworkList> list_for(const PluginOptions& options, const OwnNetwork& wanted);
Result<cni::NetworkList> own_list(const PluginOptions& options, bool ports);
Status check_capabilities(const cni::NetworkList& list, const OwnNetwork& wanted);
Status check_addresses(const cni::NetworkList& list);
Result<std::vector<PublishedPort>> free_ports(const cni::Ledger& ledger, const AttachRequest& request);
Status pay(const Context& ctx, const cni::Ledger& ledger, const cni::Owed& owed);
AttachedNetwork facts_of(const cni::Debt& debt);
cni::PortMapping mapping_of(const PublishedPort& port);
PublishedPort published(const cni::PortMapping& port);

}  // namespace

Result<AttachedNetwork> attach_network(const Context& ctx, const AttachRequest& request) {
  const PluginOptions& options = request.options;
  TRY(const cni::NetworkList list, list_for(options, request.wanted));
  TRY_VOID(check_capabilities(list, request.wanted));
  TRY_VOID(check_addresses(list));
  // Of an earlier run of the same container, whose network could not be given back then.
  TRY_VOID(give_back_network(ctx, options.data_dir, request.container_id));
  const cni::Ledger ledger = ledger_of(options.data_dir);
  cni::Debt debt;
  debt.network = list.name;
  debt.list_text = list.text;
  debt.runtime.plugin_dirs = folders(options.cni_path);
  debt.attachment.container_id = request.container_id;
  debt.attachment.netns = request.netns;
  debt.attachment.args = request.args;
  debt.attachment.supplied.ips = request.wanted.ips;
  debt.attachment.supplied.mac = request.wanted.mac;
  {
    // From the look at what is taken until ours can be seen by the next who looks.
    base::Fd lock;
    if (!request.wanted.ports.empty()) {
      TRY(lock, cni::lock_name(ctx, str(debt.runtime.cache_dir, "/.ports.lock"), "ports", cni::Share::kExclusive));
    }
    TRY(const auto ports, free_ports(ledger, request));
    for (const PublishedPort& port : ports) debt.attachment.supplied.port_mappings.push_back(mapping_of(port));
    TRY_VOID(ledger.owe(debt));
  }
  FAULT_POINT("start.network.owed");
  if (request.wanted.name == kBridge) {
    TRY_VOID(ensure_bridge_rules(ctx, options.bridge_network, host_has_ipv6(), debt.runtime.cache_dir));
  }
  TRY_VOID(cni::make_netns(request.netns));
  FAULT_POINT("start.network.made");
  const auto note = [&](const cni::AddResult& so_far) {
    debt.result_text = cni::result_text(so_far, cni::kNewest);
    return ledger.owe(debt);
  };
  TRY(const cni::AddResult result, cni::Runtime(debt.runtime).add(ctx, list, debt.attachment, note));
  FAULT_POINT("start.network.added");
  TRY_VOID(note(result));
  FAULT_POINT("start.network");
  return facts_of(debt);
}

Status give_back_network(const Context& ctx, const std::string& data_dir, const std::string& container_id) {
  const cni::Ledger ledger = ledger_of(data_dir);
  TRY(const auto all, ledger.of_container(container_id));
  Status first;
  for (const cni::Owed& owed : all) {
    auto paid = pay(ctx.with_timeout(kGiveBackTime), ledger, owed);
    if (!paid && first) first = std::move(paid);
  }
  return first;
}

void settle_networks(const Context& ctx, const std::string& data_dir,
                     const std::function<bool(const std::string& container_id)>& is_wanted) {
  const cni::Ledger ledger = ledger_of(data_dir);
  const auto all = ledger.all();
  if (!all) {
    LOG_WARN("cannot see what is owed to networks, will try again", {{"error", all.error().message}});
    return;
  }
  for (const cni::Owed& owed : *all) {
    const bool this_boot = !owed.debt || owed.debt->this_boot();
    if (this_boot && is_wanted(owed.container_id)) continue;
    const auto paid = pay(ctx, ledger, owed);
    if (paid) {
      LOG_INFO("gave back the network of a container", {{"container", owed.container_id}});
    } else {
      LOG_WARN("cannot give back the network of a container, will try again",
               {{"container", owed.container_id}, {"error", paid.error().message}});
    }
  }
}

std::vector<AttachedNetwork> attached_networks(const std::string& data_dir, const std::string& container_id) {
  std::vector<AttachedNetwork> found;
  const cni::Ledger ledger = ledger_of(data_dir);
  const auto all = container_id.empty() ? ledger.all() : ledger.of_container(container_id);
  if (!all) return found;
  for (const cni::Owed& owed : *all) {
    if (owed.debt && owed.debt->this_boot()) found.push_back(facts_of(*owed.debt));
  }
  return found;
}

Result<std::vector<NetworkInfo>> list_networks(const PluginOptions& options) {
  const auto info_of = [](std::string name, const cni::NetworkList& list) {
    std::string plugins;
    for (const cni::PluginConf& plugin : list.plugins) plugins += str(plugins.empty() ? "" : ", ", plugin.type);
    return NetworkInfo{std::move(name), list.name, plugins, "", "", list.text};
  };
  std::vector<NetworkInfo> all;
  TRY(const cni::NetworkList own, own_list(options, true));
  all.push_back(info_of(kBridge, own));
  TRY(const auto files, cni::networks_in(folders(options.cni_config_dir)));
  for (const cni::NetworkFile& file : files) {
    NetworkInfo info;
    if (file.list) {
      info = info_of(str(kNamed, file.list->name), *file.list);
    } else {
      info.problem = file.list.error().message;
    }
    info.file = file.path;
    all.push_back(std::move(info));
  }
  return all;
}

namespace {

cni::Ledger ledger_of(const std::string& data_dir) {
  return cni::Ledger(data_dir + "/tasks/.networks");
}

std::vector<std::string> folders(const std::string& colon_list) {
  std::vector<std::string> all;
  for (const std::string_view folder : base::split(colon_list, ':')) {
    if (!folder.empty()) all.emplace_back(folder);
  }
  return all;
}

Result<cni::NetworkList> list_for(const PluginOptions& options, const OwnNetwork& wanted) {
  const std::string& name = wanted.name;
  if (name.starts_with(kNamed)) return cni::find_network(folders(options.cni_config_dir), name.substr(kNamed.size()));
  if (name != kBridge) {
    return Error::invalid_argument(
        str("there is no network \"", base::printable(name), "\": use bridge, host, none or cni/NAME"));
  }
  TRY_VOID(check_host_routes(options.bridge_network));
  // For people and tools that look; the driver itself goes by its options.
  TRY(const cni::NetworkList whole, own_list(options, true));
  const std::string path = options.state_dir + "/network.conflist";
  if (const auto known = base::read_file(path, cni::kListBytesMax); !known || *known != whole.text) {
    TRY_VOID(base::make_dirs(options.state_dir, 0711));
    TRY_VOID(base::write_file_atomic(path, whole.text, 0644, base::Durable::kNo));
  }
  return own_list(options, !wanted.ports.empty());
}

Result<cni::NetworkList> own_list(const PluginOptions& options, bool ports) {
  return cni::parse_list(bridge_conflist(options.bridge_network, host_has_ipv6(), ports), "bridge_network");
}

Status check_capabilities(const cni::NetworkList& list, const OwnNetwork& wanted) {
  cni::Supplied supplied;
  supplied.ips = wanted.ips;
  supplied.mac = wanted.mac;
  for (const PublishedPort& port : wanted.ports) supplied.port_mappings.push_back(mapping_of(port));
  for (const std::string& missing : cni::undeclared(list, supplied)) {
    const char* const given = missing == "ips" ? "be given an address" : "be given a hardware address";
    const char* const what = missing == "portMappings" ? "publish ports" : given;
    return Error::invalid_argument(str("containers of network ", list.name, " cannot ", what,
                                       ": none of its plugins has \"capabilities\": { \"", missing, "\": true }"));
  }
  return {};
}

Status check_addresses(const cni::NetworkList& list) {
  for (const cni::PluginConf& plugin : list.plugins) {
    const auto json = base::parse_json(plugin.json, plugin.type);
    const auto ipam = json ? base::get_object(*json, "ipam") : Result<const base::Json*>(nullptr);
    if (!ipam || *ipam == nullptr) continue;
    const auto type = base::get_string(**ipam, "type");
    if (!type || *type != std::string("dhcp")) continue;
    return Error::failed_precondition(str("network ", list.name,
                                          " has its addresses by dhcp, for which a daemon would have to run as long as "
                                          "each lease: use host-local or static in its ipam"));
  }
  return {};
}

// What cannot be read may have the port; it does not keep everybody from starting.
Result<std::vector<PublishedPort>> free_ports(const cni::Ledger& ledger, const AttachRequest& request) {
  if (request.wanted.ports.empty()) return std::vector<PublishedPort>();
  std::vector<PublishedPort> taken;
  TRY(const auto all, ledger.all());
  for (const cni::Owed& owed : all) {
    if (!owed.debt || owed.container_id == request.container_id || !owed.debt->this_boot()) continue;
    for (const cni::PortMapping& port : owed.debt->attachment.supplied.port_mappings) taken.push_back(published(port));
  }
  return settle_ports(request.wanted.ports, taken);
}

// Only a namespace that has the name of ours is removed, whatever the file says.
Status pay(const Context& ctx, const cni::Ledger& ledger, const cni::Owed& owed) {
  if (!owed.debt) return owed.debt.error();
  const std::string& netns = owed.debt->attachment.netns;
  const bool ours = netns.ends_with(str("/netns/", owed.container_id));
  return ledger.pay(ctx, *owed.debt, ours ? netns : "");
}

AttachedNetwork facts_of(const cni::Debt& debt) {
  AttachedNetwork facts;
  facts.container_id = debt.attachment.container_id;
  facts.network = debt.network;
  for (const cni::PortMapping& port : debt.attachment.supplied.port_mappings) facts.ports.push_back(published(port));
  const auto result = cni::parse_result(debt.result_text, cni::kNewest);
  if (!result) return facts;
  for (const cni::Address& address : result->ips) {
    std::string& into = address.is_v6() ? facts.address_v6 : facts.address;
    if (into.empty()) into = address.ip();
    if (facts.gateway.empty() || (!address.is_v6() && facts.gateway.find(':') != std::string::npos)) {
      facts.gateway = address.gateway;
    }
  }
  facts.dns = {result->dns.nameservers, result->dns.search, result->dns.options};
  return facts;
}

cni::PortMapping mapping_of(const PublishedPort& port) {
  return {port.host_port, port.container_port, port.protocol, port.host_ip};
}

PublishedPort published(const cni::PortMapping& port) {
  return {port.host_ip, port.host_port, port.container_port, port.protocol};
}

}  // namespace
}  // namespace driver
