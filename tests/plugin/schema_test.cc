#include "plugin/schema.h"

#include <doctest/doctest.h>

#include "plugin/proto/hclspec.pb.h"

using driver::Schema;
using Kind = Schema::Kind;
using nomad::hclspec::Spec;

namespace {

Schema attr(const std::string& type, const std::string& name = "") {
  return {
      .kind = Kind::kAttr, .name = name, .type = type, .required = false, .literal = {}, .children = {}, .nested = {}};
}

/// The rules of the agent's parser: something is set, types are not empty, names are there.
void check_valid(const Spec& spec) {
  switch (spec.block_case()) {
    case Spec::kObject:
      for (const auto& [key, child] : spec.object().attributes()) {
        const auto& shown = key;  // clang 14 cannot capture a binding
        CAPTURE(shown);
        check_valid(child);
      }
      return;
    case Spec::kAttr:
      CHECK_FALSE(spec.attr().name().empty());
      CHECK_FALSE(spec.attr().type().empty());
      return;
    case Spec::kBlockValue:
      CHECK_FALSE(spec.block_value().name().empty());
      return check_valid(spec.block_value().nested());
    case Spec::kBlockList:
      CHECK_FALSE(spec.block_list().name().empty());
      return check_valid(spec.block_list().nested());
    case Spec::kDefault:
      CHECK_FALSE(spec.default_().default_().literal().value().empty());
      return check_valid(spec.default_().primary());
    default:
      FAIL("a spec without a member, or of a kind that we do not use");
  }
}

}  // namespace

TEST_CASE("names are written out, also where hcldec would imply none") {
  Schema with_default{.kind = Kind::kDefault,
                      .name = {},
                      .type = {},
                      .required = false,
                      .literal = "\"5m\"",
                      .children = {},
                      .nested = {attr("string")}};
  Schema inner;
  inner.children["target"] = attr("string");
  inner.children["renamed"] = attr("list(string)", "other");
  Schema block{
      .kind = Kind::kBlock, .name = {}, .type = {}, .required = true, .literal = {}, .children = {}, .nested = {inner}};
  Schema list = block;
  list.kind = Kind::kBlockList;
  Schema top;
  top.children["timeout"] = with_default;
  top.children["auth"] = block;
  top.children["mounts"] = list;
  const Spec spec = plugin::to_spec(top);
  const auto& attributes = spec.object().attributes();
  CHECK(attributes.at("timeout").default_().primary().attr().name() == "timeout");
  CHECK(attributes.at("timeout").default_().default_().literal().value() == "\"5m\"");
  CHECK(attributes.at("auth").block_value().name() == "auth");
  CHECK(attributes.at("auth").block_value().required());
  CHECK(attributes.at("mounts").block_list().name() == "mounts");
  const auto& nested = attributes.at("mounts").block_list().nested().object().attributes();
  CHECK(nested.at("target").attr().name() == "target");
  CHECK(nested.at("renamed").attr().name() == "other");
  CHECK(nested.at("renamed").attr().type() == "list(string)");
  check_valid(spec);
}

TEST_CASE("the driver's own schemas are valid") {
  check_valid(plugin::to_spec(driver::plugin_schema()));
  check_valid(plugin::to_spec(driver::task_schema()));
}
