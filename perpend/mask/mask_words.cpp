#include <algorithm>
#include <array>

#include "perpend/mask/mask_questions.h"

namespace perpend {
namespace {

using Op = MaskProgram::Op;

// Bits of the inner positions [first, last) in the word that begins at `begin`.
std::uint64_t bits_between(std::int64_t begin, std::int64_t first, std::int64_t last) {
  return low_bits(last - begin) & ~low_bits(first - begin);
}

// low_bits(first), low_bits(first + 1) and so on.
void write_rising(std::int64_t first, std::int64_t count, std::uint64_t* rows) {
  const std::int64_t some = std::clamp<std::int64_t>(1 - first, 0, count);
  const std::int64_t all = std::clamp<std::int64_t>(64 - first, 0, count);
  std::fill(rows, rows + some, 0);
  for (std::int64_t i = some; i < all; ++i) rows[i] = (std::uint64_t{1} << (first + i)) - 1;
  std::fill(rows + all, rows + count, ~std::uint64_t{0});
}

}  // namespace

bool NodeQuestions::holds(const Node& node, std::int64_t outer_label,
                          std::int64_t inner_label) const {
  const std::int64_t q = by_rows() ? outer_label : inner_label;
  const std::int64_t k = by_rows() ? inner_label : outer_label;
  switch (node.op) {
    case Op::kSame:
      return k == q;
    case Op::kUpto:
      return k <= q;
    case Op::kBefore:
      return k < q;
    default:
      if (q < 0 || q >= node.count || k < 0 || k >= node.count) return false;
      return (program_.tables[static_cast<std::size_t>(node.first + q)] >> k & 1U) != 0;
  }
}

std::uint64_t NodeQuestions::side_word(const Node& node, std::int64_t begin) const {
  std::uint64_t bits = 0;
  for (std::int64_t p = begin; p < begin + 64;) {
    const Stretch part = side_stretch(node, p, begin + 64);
    if (part.answer == Answer::kAll) bits |= bits_between(begin, p, part.end);
    p = part.end;
  }
  return bits;
}

std::uint64_t NodeQuestions::comparison_word(const Node& node, std::int64_t outer,
                                             std::int64_t begin) const {
  const LabelNode& label = program_.label(node);
  const std::int64_t outer_label = label.at(outer);
  std::uint64_t bits = 0;
  for (std::int64_t p = begin; p < begin + 64;) {
    const std::int64_t end = std::min(label.run(p).end, begin + 64);
    if (holds(node, outer_label, label.at(p))) bits |= bits_between(begin, p, end);
    p = end;
  }
  return bits;
}

std::uint64_t NodeQuestions::tiles_word(const Node& node, std::int64_t outer,
                                        std::int64_t begin) const {
  const TileMap& tiles = map(node);
  const std::int64_t outer_tile = by_rows() ? tiles.tile_q() : tiles.tile_k();
  const std::int64_t inner_tile = by_rows() ? tiles.tile_k() : tiles.tile_q();
  const TileMap::Line line = tiles.line(by_rows(), outer / outer_tile);
  const std::int64_t row = outer % outer_tile;
  std::uint64_t bits = 0;
  const auto* found = std::lower_bound(line.places.data(), line.places.data() + line.places.size(),
                                       begin / inner_tile);
  for (auto i = static_cast<std::size_t>(found - line.places.data()); i < line.places.size(); ++i) {
    const std::int64_t first = std::max(begin, line.places[i] * inner_tile);
    const std::int64_t last = std::min(begin + 64, (line.places[i] + 1) * inner_tile);
    if (first >= begin + 64) break;
    if (line.bitmaps[i] == TileMap::kFull) {
      bits |= bits_between(begin, first, last);
      continue;
    }
    for (std::int64_t p = first; p < last; ++p) {
      const std::int64_t column = p % inner_tile;
      const bool live =
          tiles.bit(line.bitmaps[i], by_rows() ? row : column, by_rows() ? column : row);
      bits |= std::uint64_t{live} << (p - begin);
    }
  }
  return bits;
}

std::uint64_t NodeQuestions::word(const Node& node, std::int64_t outer, std::int64_t begin) const {
  constexpr std::uint64_t kAll = ~std::uint64_t{0};
  if (node.is_band()) {
    const Range live = band(node, outer);
    return bits_between(begin, live.begin, live.end);
  }
  if (node.is_side()) {
    if (is_inner(node)) return side_word(node, begin);
    return side_stretch(node, outer, outer + 1).answer == Answer::kAll ? kAll : 0;
  }
  if (node.is_comparison()) return comparison_word(node, outer, begin);
  if (node.op == Op::kTiles) return tiles_word(node, outer, begin);
  if (node.op == Op::kNot) return ~word(*(&node + 1), outer, begin);
  if (node.op == Op::kAll || node.op == Op::kNone) return node.op == Op::kAll ? kAll : 0;
  const bool is_and = node.op == Op::kAnd;
  const std::uint64_t settled = is_and ? 0 : kAll;
  std::uint64_t bits = ~settled;
  const Node* end = &node + node.size;
  for (const Node* child = &node + 1; child != end && bits != settled; child += child->size) {
    const std::uint64_t part = word(*child, outer, begin);
    bits = is_and ? bits & part : bits | part;
  }
  return bits;
}

std::int64_t NodeQuestions::rows_alike(const Node& node, std::int64_t outer) const {
  const std::int64_t left = outer_.end - outer;
  switch (node.op) {
    case Op::kTiles:
      return 1;
    case Op::kNear:
      return std::min(left, node.a - outer % node.a);
    case Op::kSameBand:
    case Op::kUptoBand:
    case Op::kBeforeBand:
    case Op::kSame:
    case Op::kUpto:
    case Op::kBefore:
    case Op::kTable:
      return std::min(left, program_.label(node).run(outer).end - outer);
    case Op::kInterval:
    case Op::kIntervals:
    case Op::kMember:
    case Op::kEvery:
      return is_inner(node) ? left : side_stretch(node, outer, outer_.end).end - outer;
    default:
      return left;
  }
}

void NodeQuestions::joined_words(const Node& node, std::int64_t begin, std::uint64_t* rows) const {
  const auto count = static_cast<std::size_t>(outer_.size());
  const Node* end = &node + node.size;
  const Node* child = &node + 1;
  words(*child, begin, rows);
  std::array<std::uint64_t, kMostRows> part;
  for (child += child->size; child != end; child += child->size) {
    words(*child, begin, part.data());
    for (std::size_t i = 0; i < count; ++i) {
      rows[i] = node.op == Op::kAnd ? rows[i] & part[i] : rows[i] | part[i];
    }
  }
}

void NodeQuestions::words(const Node& node, std::int64_t begin, std::uint64_t* rows) const {
  if (node.op == Op::kAnd || node.op == Op::kOr) return joined_words(node, begin, rows);
  if (node.op == Op::kNot) {
    words(*(&node + 1), begin, rows);
    for (std::int64_t i = 0; i < outer_.size(); ++i) rows[i] = ~rows[i];
    return;
  }
  if (node.op == Op::kCausal || node.op == Op::kWindow) {
    // Both ends move with the outer position.
    const Range live = band(node, outer_.begin);
    write_rising(live.end - begin, outer_.size(), rows);
    if (live.begin + outer_.size() <= begin) return;
    std::array<std::uint64_t, kMostRows> dead;
    write_rising(live.begin - begin, outer_.size(), dead.data());
    for (std::int64_t i = 0; i < outer_.size(); ++i) rows[i] &= ~dead[static_cast<std::size_t>(i)];
    return;
  }
  for (std::int64_t outer = outer_.begin; outer < outer_.end;) {
    const std::int64_t count = rows_alike(node, outer);
    std::fill_n(rows + (outer - outer_.begin), count, word(node, outer, begin));
    outer += count;
  }
}

bool NodeQuestions::pair(const Node& node, std::int64_t outer, std::int64_t inner) const {
  if (node.is_band()) return band(node, outer).contains(inner);
  if (node.is_side()) {
    const std::int64_t place = is_inner(node) ? inner : outer;
    return side_stretch(node, place, place + 1).answer == Answer::kAll;
  }
  if (node.is_comparison()) {
    const LabelNode& label = program_.label(node);
    return holds(node, label.at(outer), label.at(inner));
  }
  if (node.op == Op::kTiles) {
    return map(node).visible(by_rows() ? outer : inner, by_rows() ? inner : outer);
  }
  if (node.op == Op::kNot) return !pair(*(&node + 1), outer, inner);
  if (node.op == Op::kAll || node.op == Op::kNone) return node.op == Op::kAll;
  const bool settled = node.op == Op::kOr;
  const Node* end = &node + node.size;
  for (const Node* child = &node + 1; child != end; child += child->size) {
    if (pair(*child, outer, inner) == settled) return settled;
  }
  return !settled;
}

}  // namespace perpend
