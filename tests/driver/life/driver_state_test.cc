#include "driver/life/driver_state.h"

#include <doctest/doctest.h>

#include "base/json.h"

namespace driver {
namespace {

struct Case {
  const char* name;
  std::string state;
  base::Code code;
  const char* words;
};

Record record_of(const char* boot_id) {
  Record record;
  record.names.container_id = "web-0123456789abcdef";
  record.boot_id = boot_id;
  return record;
}

TEST_CASE("why a record is missing") {
  const Case cases[] = {
      {"destroyed", encode_driver_state(record_of(base::boot_id().c_str())), base::Code::kNotFound, "no record"},
      {"rebooted, or another host", encode_driver_state(record_of("5c2f7e5e-0000-4000-8000-000000000000")),
       base::Code::kNotFound, "rebooted"},
      {"the Go driver",
       "\x84\xa9"
       "StartedAt\xc0\xad"
       "ContainerName\xa3"
       "web\xaa"
       "StdoutPath\xa0\xaa"
       "StderrPath\xa0",
       base::Code::kFailedPrecondition, "docs/migration.md"},
      {"newer version", R"({"driver":"containerd-driver","version":99,"boot_id":""})", base::Code::kFailedPrecondition,
       "newer version"},
      {"another driver", R"({"driver":"other","version":1})", base::Code::kFailedPrecondition, "another driver"},
      {"truncated", R"({"driver":"containerd-dri)", base::Code::kInvalidArgument, "damaged"},
      {"wrong types", R"({"driver":7})", base::Code::kInvalidArgument, "damaged"},
      {"empty", "", base::Code::kInvalidArgument, "damaged"},
      {"huge", std::string(1 << 20, '['), base::Code::kInvalidArgument, "damaged"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.name);
    const base::Error error = explain_missing_record(TaskId{"alloc/web/1"}, c.state);
    CHECK(error.code == c.code);
    CHECK(error.message.find(c.words) != std::string::npos);
    CHECK(error.message.find("alloc/web/1") != std::string::npos);
    CHECK(error.message.size() < 400);
  }
}

TEST_CASE("the state names the container and nothing secret") {
  const auto json = base::parse_json(encode_driver_state(record_of("boot")), "state");
  REQUIRE(json.has_value());
  CHECK(*base::get_string(*json, "container_id") == "web-0123456789abcdef");
  CHECK(json->size() == 4);
}

}  // namespace
}  // namespace driver
