#include "perpend/mask/covers.h"

#include <algorithm>

#include "perpend/core/demand.h"
#include "perpend/core/range.h"
#include "perpend/mask/label_node.h"
#include "perpend/mask/mask_node.h"

namespace perpend {
namespace {

// The lengths that a sequence asks for: exactly `length` when whole, else at least.
struct Need {
  std::int64_t length = 0;
  bool whole = false;

  bool is_met(std::int64_t extent) const { return whole ? extent == length : extent >= length; }
};

[[noreturn]] void refuse_extent(std::string_view what, const std::string& text, std::int64_t extent,
                                Need need) {
  throw InvalidArgument(concat("mask: ", what, " '", text.substr(0, 80), "' is given for ", extent,
                               " positions, the sequence has ", need.length,
                               need.whole ? "" : " or more; a part of a sequence must lie inside"));
}

void check_label(const Label& label, Need need) {
  const LabelNode& node = label.node();
  if (!node.is_bound()) return;  // whoever asks the mask is told
  const auto extent = node.extent();
  // Labels of many segments print as long texts.
  if (extent && !need.is_met(*extent)) refuse_extent("the label", label.str(), *extent, need);
  if (node.kind == LabelNode::Kind::kWithin) {
    check_label(*node.inner, {.length = node.args[0], .whole = true});
  } else if (node.inner) {
    check_label(*node.inner, need);
  }
}

void check_table(const MaskNode& node, Need need) {
  if (!node.label->node().is_bound() || need.length == 0) return;
  const LabelRange labels = without_names(*node.label).node().range({0, need.length});
  const auto size = static_cast<std::int64_t>(node.values.size());
  demand(labels.min >= 0 && labels.max < size, "mask: the labels of a table with ", size,
         " rows must be in [0, ", size, "), ", *node.label, " has ", labels.min, " to ",
         labels.max);
}

void check_node(const MaskNode& node, Need q, Need k) {
  const Need both{std::max(q.length, k.length), q.whole};
  if (node.label) check_label(*node.label, both);
  if (node.kind == MaskNode::Kind::kTable) check_table(node, both);
  if (node.tiles) {
    const Need rows{ceil_div(q.length, node.tiles->tile_q()), q.whole};
    const Need columns{ceil_div(k.length, node.tiles->tile_k()), k.whole};
    const std::int64_t num_rows = node.tiles->num_rows();
    const std::int64_t num_columns = node.tiles->num_columns();
    if (!rows.is_met(num_rows)) refuse_extent("the rows of tiles", node.name, num_rows, rows);
    if (!columns.is_met(num_columns)) {
      refuse_extent("the columns of tiles", node.name, num_columns, columns);
    }
  }
  for (const Mask& child : node.children) check_node(child.node(), q, k);
}

}  // namespace

void check_covers(const Mask& mask, std::int64_t q_len, std::int64_t kv_len,
                  std::int64_t q_offset) {
  if (q_len == 0 || kv_len == 0) return;
  const bool whole = q_offset == 0 && q_len == kv_len;
  check_node(mask.node(), {q_offset + q_len, whole}, {kv_len, whole});
}

}  // namespace perpend
