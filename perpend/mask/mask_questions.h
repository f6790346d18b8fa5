#pragma once

#include <cstdint>
#include <vector>

#include "perpend/mask/bound_mask.h"
#include "perpend/mask/mask_program.h"

namespace perpend {

// One node of a program, asked along one sweep: the answers from which those of BoundMask are made.
class NodeQuestions {
 public:
  using Node = MaskProgram::Node;
  using Stretch = BoundMask::Stretch;

  NodeQuestions(const MaskProgram& program, Sweep sweep) : program_(program), sweep_(sweep) {}

  bool pair(const Node& node, std::int64_t outer, std::int64_t inner) const;
  Stretch stretch(const Node& node, Range outer, Range inner) const;
  std::uint64_t word(const Node& node, std::int64_t outer, std::int64_t inner_begin) const;
  void append_class(const Node& node, Range outer, Range inner,
                    std::vector<std::int64_t>& key) const;

 private:
  bool by_rows() const { return sweep_ == Sweep::kRows; }
  // Whether a side node is about the inner axis.
  bool is_inner(const Node& node) const { return node.on_queries != by_rows(); }

  // Inner positions that are paired with `outer`, for bands.
  Range band(const Node& node, std::int64_t outer) const;
  Range label_band(const Node& node, std::int64_t outer) const;
  Stretch band_stretch(const Node& node, Range outer, Range inner) const;
  void append_band_class(const Node& node, Range outer, Range inner,
                         std::vector<std::int64_t>& key) const;

  // For sides: kAll or kNone from positions.begin on.
  Stretch side_stretch(const Node& node, Range positions) const;
  Stretch member_stretch(const Node& node, Range positions) const;
  std::uint64_t side_word(const Node& node, std::int64_t begin) const;
  void append_side_class(const Node& node, Range positions, std::vector<std::int64_t>& key) const;

  // Whether a pair of labels is live, for comparisons.
  bool holds(const Node& node, std::int64_t outer_label, std::int64_t inner_label) const;
  Stretch comparison_stretch(const Node& node, Range outer, Range inner) const;
  Stretch table_stretch(const Node& node, Range outer, Range inner) const;
  std::uint64_t comparison_word(const Node& node, std::int64_t outer, std::int64_t begin) const;
  void append_comparison_class(const Node& node, const LabelNode& label, Range outer, Range inner,
                               std::vector<std::int64_t>& key) const;

  const TileMap& map(const Node& node) const {
    return program_.tile_maps[static_cast<std::size_t>(node.first)];
  }
  Stretch tiles_stretch(const Node& node, Range outer, Range inner) const;
  std::uint64_t tiles_word(const Node& node, std::int64_t outer, std::int64_t begin) const;
  void append_tiles_class(const Node& node, Range outer, Range inner,
                          std::vector<std::int64_t>& key) const;

  Stretch joined_stretch(const Node& node, Range outer, Range inner) const;

  const MaskProgram& program_;
  Sweep sweep_;
};

// The lowest `count` bits, none for a negative count.
constexpr std::uint64_t low_bits(std::int64_t count) {
  if (count <= 0) return 0;
  return count >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
}

}  // namespace perpend
