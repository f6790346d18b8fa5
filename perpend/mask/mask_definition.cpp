#include <algorithm>

#include "perpend/core/demand.h"
#include "perpend/mask/label_node.h"
#include "perpend/mask/mask_node.h"

namespace perpend {
namespace {

using Kind = MaskNode::Kind;

bool is_one_of(const std::vector<std::int64_t>& values, std::int64_t value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

bool in_table(const std::vector<std::int64_t>& rows, std::int64_t row, std::int64_t column) {
  const auto size = static_cast<std::int64_t>(rows.size());
  if (row < 0 || row >= size || column < 0 || column >= size) return false;
  return (static_cast<std::uint64_t>(rows[static_cast<std::size_t>(row)]) >> column & 1U) != 0;
}

}  // namespace

// The table of the manual, line by line; everything faster is held against it.
bool Mask::visible(std::int64_t q, std::int64_t k, HeadIndex head) const {
  const MaskNode& node = *node_;
  const auto label = [&](std::int64_t position) { return node.label->node().at(position); };
  const auto child_sees = [&](const Mask& child) { return child.visible(q, k, head); };
  switch (node.kind) {
    case Kind::kAll:
      return true;
    case Kind::kNone:
      return false;
    case Kind::kCausal:
      return k <= q;
    case Kind::kWindow:
      return q - node.a < k && (node.b == kUnbounded || k < q + node.b);
    case Kind::kSink:
      return k < node.a;
    case Kind::kSame:
      return label(k) == label(q);
    case Kind::kUpto:
      return label(k) <= label(q);
    case Kind::kBefore:
      return label(k) < label(q);
    case Kind::kQueryIn:
      return is_one_of(node.values, label(q));
    case Kind::kKeyIn:
      return is_one_of(node.values, label(k));
    case Kind::kEvery:
      return (k / node.a + node.c * head.kv_head) % node.b == 0;
    case Kind::kNear:
      return q / node.a - k / node.a < node.b;
    case Kind::kTable:
      return in_table(node.values, label(q), label(k));
    case Kind::kTiles:
      demand(node.tiles.has_value(), "mask: the tile map '", node.name, "' is not bound");
      return node.tiles->visible(q, k);
    case Kind::kHeads:
      return child_sees(node.child_of_head(head.q_head));
    case Kind::kNot:
      return !child_sees(node.children.front());
    case Kind::kAnd:
      return std::all_of(node.children.begin(), node.children.end(), child_sees);
    case Kind::kOr:
      return std::any_of(node.children.begin(), node.children.end(), child_sees);
  }
  bug("Mask::visible: unknown kind");
}

}  // namespace perpend
