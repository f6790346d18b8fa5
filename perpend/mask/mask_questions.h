#pragma once

#include <cstdint>
#include <vector>

#include "perpend/mask/bound_mask.h"
#include "perpend/mask/mask_program.h"

namespace perpend {

// The nodes of a program, asked along one sweep about one range of the outer axis: the answers from
// which those of BoundMask are made. The inner axis is passed as two numbers, which stay in
// registers where a struct of two would wait for memory at each of the many small calls.
class NodeQuestions {
 public:
  using Node = MaskProgram::Node;
  using Stretch = BoundMask::Stretch;

  // `memory`, when given, is one for each node and keeps what was said of this outer range.
  NodeQuestions(const MaskProgram& program, Sweep sweep, Range outer,
                MaskWalk::Memory* memory = nullptr)
      : program_(program), memory_(memory), outer_(outer), sweep_(sweep) {}

  bool pair(const Node& node, std::int64_t outer, std::int64_t inner) const;
  Stretch stretch(const Node& node, std::int64_t begin, std::int64_t end) const {
    if (memory_ == nullptr) return asked_stretch(node, begin, end);
    MaskWalk::Memory& known = memory_[&node - program_.nodes.data()];
    if (begin < known.begin || begin >= known.end) {
      const Stretch part = asked_stretch(node, begin, end);
      known = {begin, part.end, part.answer};
    }
    return {known.answer, std::min(known.end, end)};
  }
  // Where behind `begin` some outer position may first have another answer; beyond `end` also.
  std::int64_t steady_end(const Node& node, std::int64_t begin, std::int64_t end) const;
  // word() for each outer position, at most kMostRows of them.
  static constexpr std::int64_t kMostRows = 64;
  void words(const Node& node, std::int64_t inner_begin, std::uint64_t* rows) const;
  std::uint64_t word(const Node& node, std::int64_t outer, std::int64_t inner_begin) const;
  // Appends the class and returns the answer when one is for all pairs, else kSome.
  Answer append_class(const Node& node, Range inner, std::vector<std::int64_t>& key) const;

 private:
  Stretch asked_stretch(const Node& node, std::int64_t begin, std::int64_t end) const;

  bool by_rows() const { return sweep_ == Sweep::kRows; }
  // Whether a side node is about the inner axis.
  bool is_inner(const Node& node) const { return node.on_queries != by_rows(); }

  // Inner positions that are paired with `outer`, for bands.
  Range band(const Node& node, std::int64_t outer) const;
  Range label_band(const Node& node, std::int64_t outer) const;
  Stretch band_stretch(const Node& node, std::int64_t begin, std::int64_t end) const;
  std::int64_t steady_band_end(const Node& node, std::int64_t begin) const;
  Answer append_band_class(const Node& node, Range inner, std::vector<std::int64_t>& key) const;

  // For sides: kAll or kNone from `begin` on, of positions on either axis.
  Stretch side_stretch(const Node& node, std::int64_t begin, std::int64_t end) const;
  Stretch member_stretch(const Node& node, std::int64_t begin, std::int64_t end) const;
  // How many outer positions from `outer` on have the word of `outer`.
  std::int64_t rows_alike(const Node& node, std::int64_t outer) const;
  void joined_words(const Node& node, std::int64_t begin, std::uint64_t* rows) const;

  std::uint64_t side_word(const Node& node, std::int64_t begin) const;
  Answer append_side_class(const Node& node, Range positions, std::vector<std::int64_t>& key) const;

  // Whether a pair of labels is live, for comparisons.
  bool holds(const Node& node, std::int64_t outer_label, std::int64_t inner_label) const;
  Stretch comparison_stretch(const Node& node, std::int64_t begin, std::int64_t end) const;
  Stretch table_stretch(const Node& node, std::int64_t begin, std::int64_t end) const;
  std::uint64_t comparison_word(const Node& node, std::int64_t outer, std::int64_t begin) const;
  void append_comparison_class(const Node& node, const LabelNode& label, Range outer, Range inner,
                               std::vector<std::int64_t>& key) const;

  const TileMap& map(const Node& node) const {
    return program_.tile_maps[static_cast<std::size_t>(node.first)];
  }
  Stretch tiles_stretch(const Node& node, std::int64_t begin, std::int64_t end) const;
  std::uint64_t tiles_word(const Node& node, std::int64_t outer, std::int64_t begin) const;
  void append_tiles_class(const Node& node, Range inner, std::vector<std::int64_t>& key) const;

  Answer append_operator_class(const Node& node, Range inner, std::vector<std::int64_t>& key) const;
  Stretch joined_stretch(const Node& node, std::int64_t begin, std::int64_t end) const;

  const MaskProgram& program_;
  MaskWalk::Memory* memory_;
  Range outer_;
  Sweep sweep_;
};

constexpr Answer invert(Answer answer) {
  if (answer == Answer::kSome) return answer;
  return answer == Answer::kAll ? Answer::kNone : Answer::kAll;
}

// The lowest `count` bits, none for a negative count.
constexpr std::uint64_t low_bits(std::int64_t count) {
  if (count <= 0) return 0;
  return count >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
}

}  // namespace perpend
