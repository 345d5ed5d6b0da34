#include "driver/options/config.h"

#include <doctest/doctest.h>

#include "base/json.h"
#include "driver/files/hosts.h"
#include "driver/spec/limits.h"

using base::Json;

namespace {
using Strings = std::vector<std::string>;

base::Result<driver::TaskOptions> decode(const std::string& key, Json value) {
  Json object = {{"image", "busybox"}};
  object[key] = std::move(value);
  return driver::decode_task_options(object);
}

std::vector<driver::MountOption> mounts_of(const std::string& key, Json value) {
  const auto options = decode(key, std::move(value));
  REQUIRE_MESSAGE(options.has_value(), options.error().message);
  return options->mounts;
}

void check_error(const std::string& key, Json value, const Strings& words) {
  CAPTURE(value.dump());
  const auto options = decode(key, std::move(value));
  REQUIRE_FALSE(options);
  CHECK(options.error().code == base::Code::kInvalidArgument);
  CAPTURE(options.error().message);
  for (const std::string& word : words) CHECK(options.error().message.find(word) != std::string::npos);
}

Json mount(Json more) {
  Json object = {{"type", "bind"}, {"source", "/s"}, {"target", "/t"}};
  object.update(more);
  return Json::array({object});
}

}  // namespace

TEST_CASE("Docker's shape of a mount") {
  CHECK(mounts_of("mount", mount(Json::object())).at(0).options.empty());
  CHECK(mounts_of("mount", mount({{"readonly", true}})).at(0).options == Strings{"ro"});
  CHECK(mounts_of("mounts", mount({{"readonly", false}})).at(0).options == Strings{"rw"});
  CHECK(mounts_of("mount", mount({{"bind_options", {{{"propagation", "rslave"}}}}})).at(0).options ==
        Strings{"rslave"});
  CHECK(mounts_of("mount", mount({{"type", "tmpfs"}, {"tmpfs_options", {{"size", 100000}, {"mode", "0700"}}}}))
            .at(0)
            .options == Strings{"size=100000", "mode=0700"});
  CHECK(mounts_of("mount", mount({{"volume_options", Json::array()}})).size() == 1);

  check_error("mounts", mount(Json::object()), {"mounts[0].options", "Options cannot be empty for mount type: bind"});
  check_error("mount", mount({{"readonly", true}, {"options", {"rw"}}}), {"mount[0].options", "readonly = true"});
  check_error("mount", mount({{"options", {"ro", "rw"}}}), {"both ro and rw"});
  check_error("mount", mount({{"bind_options", {{"propagation", "rslave"}}}, {"options", {"rshared"}}}),
              {"rshared", "bind_options.propagation"});
  check_error("mount", mount({{"bind_options", {{"propagation", "sideways"}}}}), {"propagation", "sideways"});
  check_error("mount", mount({{"tmpfs_options", {{"size", 1}}}}), {"tmpfs_options", "tmpfs"});
  check_error("mount", mount({{"type", "tmpfs"}, {"bind_options", {{"propagation", "rslave"}}}}), {"bind_options"});
  check_error("mount", mount({{"type", "tmpfs"}, {"options", {"size=1m"}}, {"tmpfs_options", {{"size", "2m"}}}}),
              {"size=1m", "tmpfs_options"});
  check_error("mount", mount({{"type", "tmpfs"}, {"tmpfs_options", {{"mode", "rwx"}}}}), {"mode", "rwx", "octal"});
  check_error("mount", mount({{"type", "volume"}, {"source", "data"}}), {"data", "volume_mount"});
  CHECK(mounts_of("mount", mount({{"volume_options", {{"no_copy", true}}}})).size() == 1);
  check_error("mount", mount({{"volume_options", {{"driver_config", {{"name", "nfs"}}}}}}),
              {"volume_options", "volume_mount"});
}

TEST_CASE("mounts and mount add up") {
  const auto options = driver::decode_task_options({{"image", "x"},
                                                    {"mounts", mount({{"options", {"rbind"}}})},
                                                    {"mount", mount({{"target", "/u"}})},
                                                    {"volumes", {"/a:/b"}},
                                                    {"tmpfs", {"/c"}}});
  REQUIRE(options);
  CHECK(options->mounts.size() == 4);
}

TEST_CASE("short forms") {
  const auto volumes = mounts_of("volumes", {"/a:/b", "data:/c:ro,rslave", "local/x:/d:rw,z"});
  CHECK(volumes.at(0).source == "/a");
  CHECK(volumes.at(0).target == "/b");
  CHECK(volumes.at(0).make_source);
  CHECK(volumes.at(1).options == Strings{"ro", "rslave"});
  CHECK(volumes.at(2).options == Strings{"rw"});  // no SELinux here
  for (const char* bad :
       {"", "/a", ":/b", "/a:", "/a:b", "/a:/b:ro:x", "/a:/b:fast", "/a:/b:", "/a:/b:size=1m", "/a:/b:ro,rw"}) {
    check_error("volumes", {bad}, {"volumes[0]"});
  }
  const auto tmpfs = mounts_of("tmpfs", {"/a", "/b:size=1m,mode=700"});
  CHECK(tmpfs.at(0).type == "tmpfs");
  CHECK(tmpfs.at(1).options == Strings{"size=1m", "mode=700"});
  for (const char* bad : {"", "a", "/a:rbind", "/a:fast", "/a:"}) check_error("tmpfs", {bad}, {"tmpfs[0]"});
}

TEST_CASE("shm_size") {
  CHECK(decode("shm_size", "64m")->shm_size == 64u << 20);
  CHECK(decode("shm_size", "67108864")->shm_size == 64u << 20);
  check_error("shm_size", "4095", {"shm_size", "4095 bytes", "4 KiB"});
}

TEST_CASE("entrypoint as Podman's driver takes it; https:// as Docker's") {
  CHECK(decode("entrypoint", "/bin/sh")->entrypoint == Strings{"/bin/sh"});
  CHECK(decode("entrypoint", {"a", "b c"})->entrypoint == Strings{"a", "b c"});
  check_error("entrypoint", 7, {"entrypoint = 7"});
  CHECK(decode("image", "https://registry.example.com/a:1")->image == "registry.example.com/a:1");
}

TEST_CASE("sysctl: only a container's own") {
  for (const char* good : {"net.ipv4.ip_forward", "net.ipv4.conf.eth0/1.forwarding", "kernel.shmmax",
                           "fs.mqueue.msg_max", "kernel.domainname"}) {
    CAPTURE(good);
    CHECK(decode("sysctl", Json::array({{{good, "1"}}})));
  }
  for (const char* bad : {"kernel.panic", "vm.swappiness", "kernel.msgfoo", "kernel.hostname", "net..x",
                          "net/../kernel", "net.a\nb", "", "net.", "netfoo"}) {
    check_error("sysctl", Json::array({{{bad, "1"}}}), {"sysctl"});
  }
}

TEST_CASE("the limit of processes: the task's, within the node's") {
  const auto limit = [](std::int64_t of_task, std::int64_t of_node) {
    return driver::effective_pids_limit(of_task, of_node).value_or(-7);
  };
  CHECK(limit(0, 0) == 0);
  CHECK(limit(-1, 0) == 0);
  CHECK(limit(5, 0) == 5);
  CHECK(limit(0, 9) == 9);
  CHECK(limit(5, 9) == 5);
  CHECK(limit(9, 9) == 9);
  CHECK(limit(10, 9) == -7);
  CHECK(limit(-1, 9) == -7);
}

TEST_CASE("network_mode and refused options name Nomad's way") {
  CHECK(decode("network_mode", "host")->host_network);
  CHECK_FALSE(decode("network_mode", "none")->host_network);
  check_error("network_mode", "container:x", {"container:x", "network block"});
  check_error("port_map", Json::array({{{"http", 80}}}), {"port_map", "network"});
  check_error("links", {"db"}, {"links", "service"});
  check_error("volume_driver", "x", {"volume_driver", "volume_mount"});
  check_error("logging", Json::array({{{"type", "gelf"}}}), {"logging", "logs"});
  for (const char* unset : {"port_map", "links", "logging"}) CHECK(decode(unset, Json::array()));
  CHECK(decode("mac_address", ""));
}

TEST_CASE("extra_hosts") {
  const auto parse = [](const char* text) {
    const auto entry = driver::parse_extra_host(text);
    return entry ? entry->name + "|" + entry->address : entry.error().message;
  };
  CHECK(parse("db:10.0.0.5") == "db|10.0.0.5");
  CHECK(parse("db=10.0.0.5") == "db|10.0.0.5");
  CHECK(parse("six:2001:db8::1") == "six|2001:db8::1");
  CHECK(parse("six:[2001:db8::1]") == "six|2001:db8::1");
  CHECK(parse("host:host-gateway") == "host|host-gateway");
  for (const char* bad : {"", "db", ":10.0.0.1", "db:", "d b:10.0.0.1", "db\n:1.2.3.4"}) {
    CHECK(parse(bad).find("bad format for add-host") != std::string::npos);
  }
  for (const char* bad : {"db:10.0.0", "db:gateway", "db:1.2.3.4%eth0", "db:10.0.0.1 evil"}) {
    CHECK(parse(bad).find("invalid IP address in add-host") != std::string::npos);
  }
}

TEST_CASE("the task's dns lists win over the group's, each alone") {
  driver::TaskSpec spec;
  CHECK_FALSE(driver::task_dns(spec));
  spec.options.dns_servers = {"192.0.2.2"};
  CHECK(driver::task_dns(spec)->servers == Strings{"192.0.2.2"});
  spec.dns = driver::Dns{{"192.0.2.1"}, {"group"}, {"ndots:1"}};
  spec.options.dns_options = {"ndots:2"};
  const auto dns = driver::task_dns(spec);
  CHECK(dns->servers == Strings{"192.0.2.2"});
  CHECK(dns->searches == Strings{"group"});
  CHECK(dns->options == Strings{"ndots:2"});
}
