#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "perpend/core/range.h"
#include "perpend/mask/label_node.h"
#include "perpend/mask/mask.h"
#include "perpend/mask/tile_map.h"

namespace perpend {

// A mask flattened for one head: nodes in prefix order, no names, no choice of heads, constants
// folded. What evaluation walks.
struct MaskProgram {
  enum class Op : std::uint8_t {
    kAll,
    kNone,
    // Bands: what an outer position is paired with is one interval, whose ends never move back as
    // the outer position moves on.
    kCausal,
    kWindow,    // a, b as in MaskNode
    kNear,      // a: block size, b: (count - 1) * block size
    kSameBand,  // a label that ascends
    kUptoBand,
    kBeforeBand,
    // Sides: pairs are live by one of their positions alone, of the query when on_queries.
    kInterval,   // positions [a, b)
    kIntervals,  // positions of intervals [first, first + count)
    kMember,     // values of the label in value_ranges [first, first + count)
    kEvery,      // a: block size, b: count, c: phase
    // Comparisons of a label that does not ascend.
    kSame,
    kUpto,
    kBefore,
    kTable,  // rows [first, first + count) of tables
    kTiles,  // tile_maps[first]
    kNot,
    kAnd,
    kOr,
  };

  struct Node {
    Op op = Op::kAll;
    bool on_queries = false;
    std::int32_t size = 1;   // nodes of the subtree, this one included
    std::int32_t label = 0;  // index into labels
    std::int32_t first = 0;
    std::int32_t count = 0;
    std::int64_t a = 0;
    std::int64_t b = 0;
    std::int64_t c = 0;

    bool is_band() const { return op >= Op::kCausal && op <= Op::kBeforeBand; }
    bool is_side() const { return op >= Op::kInterval && op <= Op::kEvery; }
    bool is_comparison() const { return op >= Op::kSame && op <= Op::kTable; }
    bool is_operator() const { return op >= Op::kNot; }
    friend bool operator==(const Node&, const Node&) = default;
  };

  std::vector<Node> nodes;
  std::vector<Label> labels;
  // For each label, whether it is asked of queries (bit 0) and of keys (bit 1).
  std::vector<std::uint8_t> label_axes;
  std::vector<Range> intervals;  // ascending, apart from one another
  std::vector<LabelRange> value_ranges;
  std::vector<std::uint64_t> tables;
  std::vector<TileMap> tile_maps;
  std::size_t hash = 0;

  const LabelNode& label(const Node& node) const {
    return labels[static_cast<std::size_t>(node.label)].node();
  }
  friend bool operator==(const MaskProgram& a, const MaskProgram& b) {
    return a.hash == b.hash && a.nodes == b.nodes && a.has_operands_of(b);
  }
  // Equal but for the phases of kEvery, which classes of rectangles name anyway.
  bool shares_classes(const MaskProgram& other) const {
    const auto alike = [](Node a, const Node& b) {
      if (a.op == Op::kEvery) a.c = b.c;
      return a == b;
    };
    return std::ranges::equal(nodes, other.nodes, alike) && has_operands_of(other);
  }

 private:
  bool has_operands_of(const MaskProgram& other) const {
    return labels == other.labels && intervals == other.intervals &&
           value_ranges == other.value_ranges && tables == other.tables &&
           tile_maps == other.tile_maps;
  }
};

// Throws InvalidArgument for names that are not bound and for a head without a mask.
MaskProgram make_program(const Mask& mask, HeadIndex head);

}  // namespace perpend
