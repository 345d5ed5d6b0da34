#include "cni/types.h"

#include <doctest/doctest.h>

#include "tests/cni/lists.h"

using cni::Version;

TEST_CASE("versions of the specification") {
  for (const char* good : {"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}) {
    const auto version = cni::parse_version(good, "x");
    REQUIRE(version);
    CHECK_EQ(version->text(), good);
  }
  for (const char* bad : {"", "1", "1.0", "1.0.0.0", "0.2.0", "0.1.0", "2.0.0", "1.1.1", "a.b.c", "1..0", "-1.0.0",
                          "99999.0.0", "1.0.0 ", "+1.0.0"}) {
    CAPTURE(bad);
    const auto version = cni::parse_version(bad, "/etc/cni/net.d/x");
    REQUIRE_FALSE(version);
    CHECK_EQ(version.error().code, base::Code::kInvalidArgument);
    CHECK(version.error().message.starts_with("/etc/cni/net.d/x has cniVersion "));
  }
  CHECK(Version{0, 4, 0} < Version{1, 0, 0});
}

TEST_CASE("a list says what its plugins are and what they can be told") {
  const auto list = cni::parse_list(R"({"cniVersion":"0.4.0","name":"a-net","disableCheck":"true","disableGC":true,
      "plugins":[{"type":"bridge","bridge":"b0"},
                 {"type":"portmap","capabilities":{"portMappings":true,"ips":false,"mac":"yes"}}]})",
                                    "x");
  REQUIRE(list);
  CHECK_EQ(list->name, "a-net");
  CHECK_EQ(list->version.text(), "0.4.0");
  CHECK(list->disable_check);
  CHECK(list->disable_gc);
  CHECK_FALSE(list->load_only_inlined);
  REQUIRE_EQ(list->plugins.size(), 2);
  CHECK_EQ(list->plugins[0].type, "bridge");
  CHECK(list->plugins[1].capabilities == std::set<std::string>{"portMappings"});
}

TEST_CASE("a file of a single plugin is a list of one") {
  const auto list = cni::parse_list(R"({"cniVersion":"0.3.1","name":"one","type":"ptp"})", "x");
  REQUIRE(list);
  REQUIRE_EQ(list->plugins.size(), 1);
  CHECK_EQ(list->plugins[0].type, "ptp");
}

TEST_CASE("of several versions the highest that is spoken counts") {
  const auto version = [](const std::string& keys) {
    const auto list = cni::parse_list("{" + keys + R"("name":"n","plugins":[{"type":"t"}]})", "x");
    return list ? list->version.text() : list.error().message;
  };
  CHECK_EQ(version(R"("cniVersions":["0.4.0","1.1.0","9.0.0"],)"), "1.1.0");
  CHECK_EQ(version(R"("cniVersion":"0.4.0","cniVersions":["0.3.1","1.0.0"],)"), "1.0.0");
  CHECK_EQ(version(R"("cniVersion":"1.1.0","cniVersions":["1.0.0"],)"), "1.1.0");
  CHECK_EQ(version(R"("cniVersion":"2.0.0","cniVersions":["1.0.0","2.0.0"],)"), "1.0.0");
  CHECK_EQ(version(""), "x has no cniVersion, which means 0.1.0, and that is not supported: use 0.3.1, 0.4.0, 1.0.0 or "
                        "1.1.0");
}

TEST_CASE("what cannot be a list is told in one sentence with the file's name") {
  const struct {
    const char* text;
    const char* says;
  } cases[] = {
      {"", "f is empty"},
      {" \n", "f is empty"},
      {"{", "f"},
      {"[]", "f is not a JSON object"},
      {"\"text\"", "f is not a JSON object"},
      {R"({"cniVersion":"0.4.0","plugins":[{"type":"t"}]})", "f has no name"},
      {R"({"cniVersion":"0.4.0","name":"a/b","plugins":[{"type":"t"}]})", "f has a name that cannot be one"},
      {R"({"cniVersion":"0.4.0","name":"..","plugins":[{"type":"t"}]})", "f has a name that cannot be one"},
      {R"({"cniVersion":"0.4.0","name":7,"plugins":[{"type":"t"}]})", "name"},
      {R"({"cniVersion":"0.4.0","name":"n"})", "f has no plugins"},
      {R"({"cniVersion":"0.4.0","name":"n","plugins":[]})", "f has no plugins"},
      {R"({"cniVersion":"0.4.0","name":"n","plugins":{}})", "plugins"},
      {R"({"cniVersion":"0.4.0","name":"n","plugins":["bridge"]})", "a plugin is not a JSON object"},
      {R"({"cniVersion":"0.4.0","name":"n","plugins":[{}]})", "a plugin has no \"type\""},
      {R"({"cniVersion":"0.4.0","name":"n","plugins":[{"type":"../../bin/sh"}]})", "\"../../bin/sh\""},
      {R"({"cniVersion":"0.4.0","name":"n","plugins":[{"type":"a/b"}]})", "without a path"},
      {R"({"cniVersion":"0.4.0","name":"n","plugins":[{"type":"."}]})", "without a path"},
      {R"({"cniVersion":"0.4.0","name":"n","disableCheck":3,"plugins":[{"type":"t"}]})", "disableCheck"},
      {R"({"cniVersion":4,"name":"n","plugins":[{"type":"t"}]})", "cniVersion"},
  };
  for (const auto& each : cases) {
    CAPTURE(each.text);
    const auto list = cni::parse_list(each.text, "f");
    REQUIRE_FALSE(list);
    CHECK_EQ(list.error().code, base::Code::kInvalidArgument);
    CHECK(list.error().message.find(each.says) != std::string::npos);
    CHECK(list.error().message.find('f') != std::string::npos);
    CHECK(list.error().message.find('\n') == std::string::npos);
  }
  CHECK_FALSE(cni::parse_list(std::string(cni::kListBytesMax + 1, ' ') + "{}", "f"));
}

TEST_CASE("names of networks, containers, interfaces and plugins") {
  for (const char* good : {"a", "A-b_c.d", "0"}) CHECK(cni::is_name(good));
  for (const char* bad : {"", "-a", ".", "..", "a/b", "a b", "a:b", "\xc3\xa4", "a\n"}) CHECK_FALSE(cni::is_name(bad));
  CHECK_FALSE(cni::is_name(std::string(cni::kNameBytesMax + 1, 'a')));
  for (const char* good : {"eth0", "a", "veth-123456789a"}) CHECK(cni::is_ifname(good));
  for (const char* bad : {"", ".", "..", "a/b", "a:b", "a b", "a\tb", "sixteen-bytes-ab"}) {
    CHECK_FALSE(cni::is_ifname(bad));
  }
  for (const char* bad : {"", ".", "..", "/bin/sh", "a/b", "a\nb"}) CHECK_FALSE(cni::is_plugin_type(bad));
}
