#include "oci/fetch/registry/toml.h"

#include <doctest/doctest.h>

using oci::fetch::parse_toml;
using oci::fetch::TomlValue;

namespace {

/// A value as one line: order and lines are what the tests look at.
std::string show(const TomlValue& value) {
  std::string out;
  switch (value.kind) {
    case TomlValue::Kind::kText:
      return "'" + value.text + "'";
    case TomlValue::Kind::kBool:
      return value.flag ? "yes" : "no";
    case TomlValue::Kind::kOther:
      return "other";
    case TomlValue::Kind::kList:
      for (const auto& item : value.items) out += (out.empty() ? "" : " ") + show(item);
      return "[" + out + "]";
    case TomlValue::Kind::kTable:
      for (const auto& member : value.members) {
        out += (out.empty() ? "" : " ") + member.key + "=" + show(member.value);
      }
      return "{" + out + "}";
  }
  return out;
}

std::string parse_text(std::string_view text) {
  const auto value = parse_toml(text);
  return value ? show(*value) : value.error().message;
}

}  // namespace

TEST_CASE("documents") {
  struct Row {
    std::string_view text;
    std::string_view value;
  };
  const Row rows[] = {
      {"", "{}"},
      {"\xef\xbb\xbf# only a comment: ä", "{}"},
      {"a = 'x'\r\nb=\"y\"# c\n\n", "{a='x' b='y'}"},
      {"z = true\na = false", "{z=yes a=no}"},
      {"\"q u\" = ''\n'l\\' = ''\n1-_ = ''", "{q u='' l\\='' 1-_=''}"},
      {"a . b.\"c\" = ''\na.d = ''", "{a={b={c=''} d=''}}"},
      {"[t]\na = ''\n[ t . u ]\nb = ''\n[z]\n[a]", "{t={a='' u={b=''}} z={} a={}}"},
      {"[t.u]\nx=''\n[t]\ny=''", "{t={u={x=''} y=''}}"},
      {"a = [ 'x' , # c\n 'y',\n\n]\nb = []", "{a=['x' 'y'] b=[]}"},
      {"a = { b = 'x', c.d = [1, {}] }", "{a={b='x' c={d=[other {}]}}}"},
      {"n = [1, -0x1F, +1_000, 1.5e-9, inf, -nan, 1979-05-27T07:32:00.5Z, 07:32:00, 1979-05-27]",
       "{n=[other other other other other other other other other]}"},
      {R"(a = "\b\t\n\f\r\"\\A\u00e9\u20ac\U0001F600")", "{a='\b\t\n\f\r\"\\Aé€😀'}"},
      {"a = 'C:\\x'", "{a='C:\\x'}"},
      {"a = \"\"\"\nx\r\n\\\n   y \"\" \\u0041\"\"\"\"\"", "{a='x\ny \"\" A\"\"'}"},
      {"a = '''\nx\\\n'y'''", "{a='x\\\n'y'}"},
      {"a = \"\"\"\"\"\"", "{a=''}"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text);
    CHECK_EQ(parse_text(row.text), row.value);
  }
}

TEST_CASE("what is not TOML, or not used here") {
  struct Row {
    std::string_view text;
    std::string_view message;
  };
  const Row rows[] = {
      {"a", "line 1: a key must be followed by ="},
      {"= 1", "line 1: a key is missing"},
      {"ä = 1", "line 1: a key is missing"},
      {"\n\na =", "line 3: a value is missing"},
      {"a = x", "line 1: a value is missing"},
      {"a = True", "line 1: a value is missing"},
      {"a = 1 2", "line 1: unexpected text at the end"},
      {"a = 1\rb = 2", "line 1: unexpected text at the end"},
      {"a = 'x", "line 1: a string is not closed"},
      {"a = 'x\ny'", "line 1: a string is not closed"},
      {"a = \"\"\"\nx\n", "line 3: a string is not closed"},
      {"a = \"\\x\"", "line 1: a string has an unknown escape"},
      {"a = \"\\", "line 1: a string has an unknown escape"},
      {"a = \"\\u12\"", "line 1: an escape needs hexadecimal digits"},
      {"a = \"\\ud800\"", "line 1: an escape does not name a character"},
      {"a = \"\\U00110000\"", "line 1: an escape does not name a character"},
      {"a = [1", "line 1: a list must end with ]"},
      {"a = [1 2]", "line 1: a list must end with ]"},
      {"a = [,]", "line 1: a value is missing"},
      {"a = { b = 1", "line 1: an inline table must end with }"},
      {"a = { b = 1,\n c = 2 }", "line 1: a key is missing"},
      {"[a", "line 1: a table's name must end with ]"},
      {"[]", "line 1: a key is missing"},
      {"[[a]]", "line 1: arrays of tables"},
      {"[a]\n[a]", "line 2: this table is defined twice"},
      {"a = 1\na = 2", "line 2: this key is defined twice"},
      {"a = 1\na.b = 2", "line 2: this key already has"},
      {"a = {}\na.b = 2", "line 2: this key already has a value of its own"},
      {"a = {}\n[a]", "line 2: this key already has a value of its own"},
      {"[a.b]\n[a]\nb.c = 1", "line 3: this key already has a value of its own"},
      {"# \x01", "line 1: a comment has control characters"},
      {"a = '\x01'", "line 1: a string is not closed, or has control"},
      {"'''a''' = 1", "line 1: a key must be on one line"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text);
    const std::string message = parse_text(row.text);
    CAPTURE(message);
    CHECK(message.starts_with(row.message));
  }
}

TEST_CASE("each value knows its line") {
  const auto root = parse_toml("\na = [\n'x']\n[t]\nb = 1\n");
  REQUIRE(root.has_value());
  CHECK_EQ(root->find("a")->line, 2);
  CHECK_EQ(root->find("a")->items[0].line, 3);
  CHECK_EQ(root->find("t")->line, 4);
  CHECK_EQ(root->find("t")->find("b")->line, 5);
  CHECK_EQ(root->find("none"), nullptr);
}

TEST_CASE("limits") {
  CHECK(parse_text("a = " + std::string(200000, '[')).find("nested too deeply") != std::string::npos);
  std::string tables = "a = ";
  for (int i = 0; i < 100000; ++i) tables += "{a=";
  CHECK(parse_text(tables).find("nested too deeply") != std::string::npos);
  std::string key = "a";
  for (int i = 0; i < 100000; ++i) key += ".a";
  CHECK(parse_text(key + " = 1").find("too many parts") != std::string::npos);
  CHECK(parse_text("[" + key + "]").find("too many parts") != std::string::npos);
  std::string many;
  for (std::size_t i = 0; i <= oci::fetch::kTomlMembersMax; ++i) many += base::str("k", i, " = 1\n");
  CHECK(parse_text(many).find("too many keys") != std::string::npos);
}
