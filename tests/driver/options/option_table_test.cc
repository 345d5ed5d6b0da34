// Every row of the table against every kind of bad input: a new row is covered by being there. What a row takes that
// others refuse is listed by name below.
#include "driver/options/option_table.h"

#include <doctest/doctest.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "base/json.h"
#include "driver/options/config.h"

using base::Json;
using base::str;

namespace {

/// One option with the blocks that it lies in, and how to decode an object that holds it.
struct Row {
  std::string name;  ///< "mounts.bind_options.propagation"
  Json doc;          ///< as `containerd-driver schema` has it
  std::vector<Json> blocks;
  bool of_plugin = false;
};

void collect(const Json& docs, const std::string& prefix, const std::vector<Json>& blocks, bool of_plugin,
             std::vector<Row>& rows) {
  for (const Json& doc : docs) {
    const std::string name = prefix + doc["name"].get<std::string>();
    // Whatever is in these is taken: foreign_options_test.cc.
    if (doc["type"].get<std::string>().starts_with("no effect")) continue;
    rows.push_back({name, doc, blocks, of_plugin});
    if (!doc.contains("fields")) continue;
    std::vector<Json> inner = blocks;
    inner.push_back(doc);
    collect(doc["fields"], name + ".", inner, of_plugin, rows);
  }
}

std::vector<Row> all_rows() {
  std::vector<Row> rows;
  const Json options = driver::options_json();
  collect(options["plugin"], "", {}, true, rows);
  collect(options["task"], "", {}, false, rows);
  return rows;
}

/// `value` under `name`, inside the row's blocks, with what these require.
Json object_with(const Row& row, const std::string& name, const Json& value) {
  Json object = {{name, value}};
  for (auto block = row.blocks.rbegin(); block != row.blocks.rend(); ++block) {
    for (const Json& field : (*block)["fields"]) {
      if (field["required"] == true && !object.contains(field["name"].get<std::string>())) {
        object[field["name"].get<std::string>()] = Json::parse(field["example"].get<std::string>());
      }
    }
    object = Json{{(*block)["name"].get<std::string>(), Json::array({object})}};
  }
  if (!row.of_plugin && !object.contains("image")) object["image"] = "busybox";
  return object;
}

/// The error's message, or "" for success. Whatever comes in, it is a user's mistake and not ours.
std::string error_of(const Row& row, const Json& object) {
  base::Status status;
  if (row.of_plugin) {
    if (auto decoded = driver::decode_plugin_options(object); !decoded) status = decoded.error();
  } else {
    if (auto decoded = driver::decode_task_options(object); !decoded) status = decoded.error();
  }
  if (status) return "";
  CHECK(status.error().code == base::Code::kInvalidArgument);
  return status.error().message;
}

std::string error_with(const Row& row, const Json& value) {
  return error_of(row, object_with(row, row.doc["name"], value));
}

/// The last name of the row must be in the message, with the message short enough to read.
void check_names(const Row& row, const std::string& message) {
  CAPTURE(row.name);
  CAPTURE(message);
  CHECK(message.find(row.doc["name"].get<std::string>()) != std::string::npos);
  CHECK(message.size() < 1000);
}

/// A string for a "string", a list with it for a list, and so on; null for what has no text in it.
Json text_as(const Row& row, const std::string& text) {
  const std::string type = row.doc.value("hcl_type", "");
  if (type == "string" || type == "any") return text;
  if (type == "list(string)") return Json::array({text});
  if (type == "list(map(string))") return Json::array({{{"key", text}}});
  return nullptr;
}

/// Refused options refuse everything; what they say is tested where they are.
bool is_refused(const Row& row) {
  return row.doc["type"] == "refused";
}

// Text that is the task's own business may have line breaks in it.
const std::set<std::string> kFreeText = {"command",  "args",          "entrypoint",   "labels",
                                         "password", "auth.password", "auth.username"};

}  // namespace

TEST_CASE("values of the wrong type are refused by name") {
  for (const Row& row : all_rows()) {
    const std::string type = row.doc.value("hcl_type", "block");
    for (const Json& value :
         {Json(1.5), Json(true), Json("\x01"), Json::array({Json::array()}), Json{{"no-such-field", Json::array()}}}) {
      // true is what a flag takes, free text takes any; a block ignores fields that the schema has refused already
      if (value.is_string() && kFreeText.contains(row.name)) continue;
      if ((type == "bool" && value.is_boolean()) || (type == "block" && value.is_object())) continue;
      CAPTURE(value.dump());
      check_names(row, error_with(row, value));
    }
  }
}

TEST_CASE("no value is too odd to be decoded or refused") {
  const std::vector<Json> odd = {"",
                                 Json::array(),
                                 Json::object(),
                                 Json::array({""}),
                                 Json::array({nullptr}),
                                 Json::array({Json::object()}),
                                 -1,
                                 0,
                                 std::numeric_limits<std::int64_t>::min(),
                                 std::numeric_limits<std::uint64_t>::max(),
                                 1e300,
                                 "-1",
                                 "99999999999999999999999999",
                                 "/",
                                 "..",
                                 "../../../../etc/shadow",
                                 "\xff\xfe",
                                 std::string(200'000, 'x')};
  for (const Row& row : all_rows()) {
    for (const Json& value : odd) {
      const std::string message = error_with(row, value);
      if (!message.empty()) CHECK(message.size() < 1000);
    }
  }
}

TEST_CASE("NUL bytes, and more than any name has, are refused by name") {
  for (const Row& row : all_rows()) {
    for (const std::string& text : {std::string("a\0b", 3), std::string(200'000, 'x')}) {
      const Json value = text_as(row, text);
      if (value.is_null()) continue;
      check_names(row, error_with(row, value));
    }
  }
}

TEST_CASE("names have no line breaks and at most 4095 bytes") {
  for (const Row& row : all_rows()) {
    if (is_refused(row) || kFreeText.contains(row.name)) continue;
    for (const std::string& text : {std::string("/a\nb"), "/" + std::string(5000, 'x')}) {
      const Json value = text_as(row, text);
      if (value.is_null()) continue;
      check_names(row, error_with(row, value));
    }
  }
}

TEST_CASE("two names of one option with different values are refused") {
  int seen = 0;
  for (const Row& row : all_rows()) {
    if (!row.doc.contains("aliases")) continue;
    for (const Json& alias : row.doc["aliases"]) {
      ++seen;
      Json object = object_with(row, row.doc["name"], text_as(row, "/a"));
      object[alias.get<std::string>()] = text_as(row, "/b");
      const std::string message = error_of(row, object);
      check_names(row, message);
      CHECK(message.find(alias.get<std::string>()) != std::string::npos);
    }
  }
  CHECK(seen >= 2);
}

TEST_CASE("every option has a type, a text and an example") {
  for (const Row& row : all_rows()) {
    CAPTURE(row.name);
    CHECK_FALSE(row.doc["type"].get<std::string>().empty());
    CHECK_FALSE(row.doc["text"].get<std::string>().empty());
    CHECK_FALSE(row.doc["example"].get<std::string>().empty());
  }
}

TEST_CASE("a secret is in no message") {
  const std::string secret = "s3cr3t-canary";
  for (const Row& row : all_rows()) {
    if (row.doc["name"] != "password") continue;
    for (const Json& value : {Json::array({secret}), Json(secret + std::string(1, '\0')), Json{{"a", secret}}}) {
      const std::string message = error_with(row, value);
      CHECK_FALSE(message.empty());
      CHECK(message.find(secret) == std::string::npos);
    }
  }
}
