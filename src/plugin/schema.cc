#include "plugin/schema.h"

#include "base/result.h"
#include "plugin/proto/hclspec.pb.h"

namespace plugin {

namespace {

using Kind = driver::Schema::Kind;

// `implied` is the key that leads to the schema; hcldec uses it where the schema has no name of its own.
void fill(const driver::Schema& schema, const std::string& implied, nomad::hclspec::Spec* spec);
const driver::Schema& only_child(const driver::Schema& schema);

}  // namespace

nomad::hclspec::Spec to_spec(const driver::Schema& schema) {
  nomad::hclspec::Spec spec;
  fill(schema, schema.name, &spec);
  return spec;
}

namespace {

void fill(const driver::Schema& schema, const std::string& implied, nomad::hclspec::Spec* spec) {
  const std::string& name = schema.name.empty() ? implied : schema.name;
  switch (schema.kind) {
    case Kind::kObject: {
      auto* object = spec->mutable_object();
      for (const auto& [key, child] : schema.children) fill(child, key, &(*object->mutable_attributes())[key]);
      return;
    }
    case Kind::kAttr: {
      CHECK(!name.empty() && !schema.type.empty());
      auto* attr = spec->mutable_attr();
      attr->set_name(name);
      attr->set_type(schema.type);
      attr->set_required(schema.required);
      return;
    }
    case Kind::kBlock: {
      CHECK(!name.empty());
      auto* block = spec->mutable_block_value();
      block->set_name(name);
      block->set_required(schema.required);
      return fill(only_child(schema), name, block->mutable_nested());
    }
    case Kind::kBlockList: {
      CHECK(!name.empty());
      auto* list = spec->mutable_block_list();
      list->set_name(name);
      return fill(only_child(schema), name, list->mutable_nested());
    }
    case Kind::kDefault: {
      CHECK(!schema.literal.empty());
      auto* with_default = spec->mutable_default_();
      fill(only_child(schema), name, with_default->mutable_primary());
      with_default->mutable_default_()->mutable_literal()->set_value(schema.literal);
      return;
    }
  }
}

const driver::Schema& only_child(const driver::Schema& schema) {
  CHECK(schema.nested.size() == 1);
  return schema.nested.front();
}

}  // namespace

}  // namespace plugin
