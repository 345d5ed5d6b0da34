#include "cni/directory.h"

#include <fcntl.h>

#include <algorithm>
#include <array>

#include "base/dir.h"
#include "base/file.h"
#include "base/text.h"

namespace cni {

namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;
using base::str;

constexpr std::array<std::string_view, 3> kEndings = {".conflist", ".conf", ".json"};

Result<std::vector<std::string>> files_of(const std::string& dir, const std::vector<std::string_view>& endings);
Result<NetworkList> read_network(const std::string& dir, const std::string& path);
Result<std::string> read_config(const std::string& path);
Status add_plugins_beside(const std::string& dir, NetworkList& list);
bool is_list_file(const std::string& path);

}  // namespace

Result<std::vector<NetworkFile>> networks_in(const std::vector<std::string>& dirs) {
  std::vector<NetworkFile> all;
  for (const std::string& dir : dirs) {
    TRY(const auto paths, files_of(dir, {kEndings.begin(), kEndings.end()}));
    for (const std::string& path : paths) {
      if (all.size() == kFilesMax) {
        return Error::resource_exhausted(str(dir, " has more than ", kFilesMax, " network configurations"));
      }
      all.push_back({path, read_network(dir, path)});
    }
  }
  return all;
}

Result<NetworkList> find_network(const std::vector<std::string>& dirs, const std::string& name) {
  if (!is_name(name)) {
    return Error::invalid_argument(str("\"", base::printable(name.substr(0, 64)), "\" cannot be a network's name"));
  }
  TRY(auto files, networks_in(dirs));
  std::string broken;
  NetworkFile* found = nullptr;
  for (NetworkFile& file : files) {
    if (!file.list) {
      broken += str("; ", file.list.error().message);
    } else if (file.list->name == name &&
               (found == nullptr || (!is_list_file(found->path) && is_list_file(file.path)))) {
      found = &file;
    }
  }
  if (found != nullptr) return *std::move(found->list);
  std::string where;
  for (const std::string& dir : dirs) where += str(where.empty() ? "" : ", ", dir);
  return Error::not_found(str("there is no network \"", name, "\" in ", where,
                              broken.empty() ? ": put its conflist there" : str(" that can be used", broken)));
}

namespace {

Result<std::vector<std::string>> files_of(const std::string& dir, const std::vector<std::string_view>& endings) {
  std::vector<std::string> paths;
  auto names = base::list_dir(dir);
  if (!names && names.error().code == Code::kNotFound) return paths;
  if (!names) return std::move(names).error();
  for (const std::string& name : *names) {
    const auto ends = [&](std::string_view ending) { return name.ends_with(ending); };
    if (std::any_of(endings.begin(), endings.end(), ends)) paths.push_back(str(dir, "/", name));
  }
  return paths;
}

Result<NetworkList> read_network(const std::string& dir, const std::string& path) {
  TRY(const std::string text, read_config(path));
  TRY(NetworkList list, parse_list(text, path));
  if (!list.load_only_inlined) TRY_VOID(add_plugins_beside(dir, list));
  return list;
}

// A link is fine, as administrators make them; a FIFO behind it is not.
Result<std::string> read_config(const std::string& path) {
  TRY(const base::Fd named, base::open_file(path, O_PATH));
  auto file = base::open_named(named, base::FileKind::kFile, O_RDONLY);
  if (!file) return std::move(file).error().wrap(path);
  return base::read_to_end(base::Context::cleanup(), file->get(), kListBytesMax, path);
}

Status add_plugins_beside(const std::string& dir, NetworkList& list) {
  TRY(const auto paths, files_of(str(dir, "/", list.name), {".conf"}));
  for (const std::string& path : paths) {
    TRY(const std::string text, read_config(path));
    // Files beside need no name and version: they are those of the list.
    auto wrapped = parse_list(str("{\"cniVersion\":\"", list.version.text(), "\",\"name\":\"", list.name,
                                  "\",\"plugins\":[", text, "]}"),
                              path);
    if (!wrapped) return std::move(wrapped).error();
    for (PluginConf& plugin : wrapped->plugins) list.plugins.push_back(std::move(plugin));
    if (list.plugins.size() > kPluginsMax) {
      return Error::invalid_argument(str("network ", list.name, " has more than ", kPluginsMax, " plugins"));
    }
  }
  return {};
}

bool is_list_file(const std::string& path) {
  return path.ends_with(kEndings[0]);
}

}  // namespace
}  // namespace cni
