#include "perpend/mask/bindings.h"

#include "perpend/core/demand.h"
#include "perpend/mask/label_node.h"
#include "perpend/mask/words.h"

namespace perpend {

Bindings& Bindings::set(const std::string& name, const Label& label) {
  check_name(name);
  demand(label.node().is_bound(), "bindings: '", name, "' would stand for ", label,
         ", which has a name that is not bound");
  labels_.insert_or_assign(name, label);
  return *this;
}

Bindings& Bindings::set(const std::string& name, const TileMap& tiles) {
  check_name(name);
  tiles_.insert_or_assign(name, tiles);
  return *this;
}

const Label* Bindings::label(std::string_view name) const {
  const auto found = labels_.find(name);
  return found == labels_.end() ? nullptr : &found->second;
}

const TileMap* Bindings::tiles(std::string_view name) const {
  const auto found = tiles_.find(name);
  return found == tiles_.end() ? nullptr : &found->second;
}

Label Bindings::bind(const Label& label) const {
  const LabelNode& node = label.node();
  if (node.is_bound()) return label;
  if (node.kind == LabelNode::Kind::kName) {
    const Label* target = this->label(node.name);
    return target == nullptr ? label : bound_name(label, *target);
  }
  return Label::within(node.args[0], bind(*node.inner));
}

}  // namespace perpend
