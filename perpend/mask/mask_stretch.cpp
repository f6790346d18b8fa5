#include <algorithm>
#include <bit>
#include <limits>

#include "perpend/core/error.h"
#include "perpend/mask/mask_questions.h"

namespace perpend {
namespace {

using Op = MaskProgram::Op;
using Stretch = BoundMask::Stretch;

// How many runs or tiles are looked at before an answer is left at `some`.
constexpr int kMostParts = 64;

// Labels below, among and above those of the outer positions, as far as they answer alike.
struct Zones {
  std::int64_t last_below;   // greatest label of the lower zone
  std::int64_t last_inside;  // greatest label of the middle zone
  Answer below, inside, above;
};

Zones zones_of(Op op, bool by_rows, LabelRange outer) {
  if (op == Op::kSame) {
    const Answer inside = outer.min == outer.max ? Answer::kAll : Answer::kSome;
    return {outer.min - 1, outer.max, Answer::kNone, inside, Answer::kNone};
  }
  // upto by rows and before by columns cut behind the outer labels, the others before them.
  const std::int64_t cut = (op == Op::kUpto) == by_rows ? 0 : 1;
  return {outer.min - cut, outer.max - cut, by_rows ? Answer::kAll : Answer::kNone, Answer::kSome,
          by_rows ? Answer::kNone : Answer::kAll};
}

// What a line of a tile map says from one place on, and up to where (in tiles).
Stretch line_stretch(const TileMap::Line& line, std::int64_t place) {
  const auto begin = line.places.begin();
  const auto found = std::lower_bound(begin, line.places.end(), place);
  if (found == line.places.end()) return {Answer::kNone, kUnbounded};
  if (*found != place) return {Answer::kNone, *found};
  auto i = static_cast<std::size_t>(found - begin);
  const bool full = line.bitmaps[i] == TileMap::kFull;
  std::int64_t end = place + 1;
  for (++i; i < line.places.size() && end - place < kMostParts; ++i, ++end) {
    if (line.places[i] != end || (line.bitmaps[i] == TileMap::kFull) != full) break;
  }
  return {full ? Answer::kAll : Answer::kSome, end};
}

}  // namespace

Range NodeQuestions::label_band(const Node& node, std::int64_t outer) const {
  const Range run = program_.label(node).run(outer);
  if (node.op == Op::kSameBand) return run;
  const bool upto = node.op == Op::kUptoBand;
  if (by_rows()) return {-kUnbounded, upto ? run.end : run.begin};
  return {upto ? run.begin : run.end, kUnbounded};
}

Range NodeQuestions::band(const Node& node, std::int64_t outer) const {
  switch (node.op) {
    case Op::kCausal:
      return by_rows() ? Range{-kUnbounded, outer + 1} : Range{outer, kUnbounded};
    case Op::kWindow:
      return by_rows() ? Range{outer - node.a + 1, outer + node.b}
                       : Range{outer - node.b + 1, outer + node.a};
    case Op::kNear: {
      const std::int64_t block = quotient(outer, node.a) * node.a;
      return by_rows() ? Range{block - node.b, kUnbounded}
                       : Range{-kUnbounded, block + node.b + node.a};
    }
    default:
      return label_band(node, outer);
  }
}

// Both ends of the bands of `outer` move one way only, so the first and the last tell all.
Stretch NodeQuestions::band_stretch(const Node& node, std::int64_t begin, std::int64_t end) const {
  const Range a = band(node, outer_.begin);
  const Range b = outer_.size() == 1 ? a : band(node, outer_.end - 1);
  const Range common = intersect(a, b);
  const Range hull{std::min(a.begin, b.begin), std::max(a.end, b.end)};
  if (hull.empty() || begin >= hull.end) return {Answer::kNone, end};
  if (begin < hull.begin) return {Answer::kNone, std::min(hull.begin, end)};
  if (common.contains(begin)) return {Answer::kAll, std::min(common.end, end)};
  if (!common.empty() && begin < common.begin) {
    return {Answer::kSome, std::min(common.begin, end)};
  }
  return {Answer::kSome, std::min(hull.end, end)};
}

// All bands begin between where the first and the last do, and so do they end.
std::int64_t NodeQuestions::steady_band_end(const Node& node, std::int64_t begin) const {
  const Range a = band(node, outer_.begin);
  const Range b = band(node, outer_.end - 1);
  const auto next_edge = [begin](std::int64_t first, std::int64_t last) {
    if (last <= begin) return kUnbounded;
    return std::max(first, begin + 1);
  };
  return std::min(next_edge(a.begin, b.begin), next_edge(a.end, b.end));
}

Stretch NodeQuestions::member_stretch(const Node& node, std::int64_t begin,
                                      std::int64_t end) const {
  const LabelNode& label = program_.label(node);
  const std::int64_t value = label.at(begin);
  const LabelRange* first = program_.value_ranges.data() + node.first;
  const LabelRange* last = first + node.count;
  const LabelRange* next =
      std::partition_point(first, last, [&](const LabelRange& range) { return range.max < value; });
  const bool inside = next != last && next->min <= value;
  const LabelRange gap{next == first ? -kUnbounded : (next - 1)->max + 1,
                       next == last ? kUnbounded : next->min - 1};
  return {inside ? Answer::kAll : Answer::kNone, label.leave(begin, end, inside ? *next : gap)};
}

Stretch NodeQuestions::side_stretch(const Node& node, std::int64_t begin, std::int64_t end) const {
  const auto until = [end](Answer answer, std::int64_t reach) {
    return Stretch{answer, std::min(reach, end)};
  };
  const auto in_interval = [&](Range interval) {
    if (begin < interval.begin) return until(Answer::kNone, interval.begin);
    return begin < interval.end ? until(Answer::kAll, interval.end) : Stretch{Answer::kNone, end};
  };
  switch (node.op) {
    case Op::kInterval:
      return in_interval({node.a, node.b});
    case Op::kIntervals: {
      const Range* first = program_.intervals.data() + node.first;
      const Range* last = first + node.count;
      const Range* next =
          std::partition_point(first, last, [&](const Range& range) { return range.end <= begin; });
      return next == last ? Stretch{Answer::kNone, end} : in_interval(*next);
    }
    case Op::kEvery: {
      const std::int64_t block = quotient(begin, node.a);
      const std::int64_t phase = block + node.c - quotient(block + node.c, node.b) * node.b;
      return phase == 0 ? until(Answer::kAll, (block + 1) * node.a)
                        : until(Answer::kNone, (block + node.b - phase) * node.a);
    }
    default:
      return member_stretch(node, begin, end);
  }
}

Stretch NodeQuestions::comparison_stretch(const Node& node, std::int64_t begin,
                                          std::int64_t end) const {
  const LabelNode& label = program_.label(node);
  const Zones zones = zones_of(node.op, by_rows(), label.range(outer_));
  const std::int64_t value = label.at(begin);
  Answer answer = zones.above;
  LabelRange alike{zones.last_inside + 1, kUnbounded};
  if (value <= zones.last_below) {
    answer = zones.below;
    alike = {-kUnbounded, zones.last_below};
  } else if (value <= zones.last_inside) {
    answer = zones.inside;
    alike = {zones.last_below + 1, zones.last_inside};
  }
  return {answer, label.leave(begin, end, alike)};
}

Stretch NodeQuestions::table_stretch(const Node& node, std::int64_t begin, std::int64_t end) const {
  const LabelNode& label = program_.label(node);
  // The labels of the outer positions as bits; too many runs, or labels outside the table, and all
  // of the table may be among them.
  std::uint64_t present = 0;
  bool all_known = true;
  int parts = 0;
  for (std::int64_t p = outer_.begin; p < outer_.end; p = label.run(p).end) {
    const std::int64_t value = label.at(p);
    all_known &= value >= 0 && value < node.count && ++parts <= kMostParts;
    if (!all_known) break;
    present |= std::uint64_t{1} << value;
  }
  const auto answer_at = [&](std::int64_t position) {
    const std::int64_t value = label.at(position);
    if (value < 0 || value >= node.count) return Answer::kNone;
    if (!all_known) return Answer::kSome;
    std::uint64_t live = 0;  // outer labels that are paired with `value`
    for (std::int64_t o = 0; o < node.count; ++o) {
      live |= std::uint64_t{holds(node, o, value)} << o;
    }
    if ((live & present) == 0) return Answer::kNone;
    return (live & present) == present ? Answer::kAll : Answer::kSome;
  };
  Stretch result{answer_at(begin), label.run(begin).end};
  for (int i = 0; i < kMostParts && result.end < end; ++i) {
    if (answer_at(result.end) != result.answer) return result;
    result.end = label.run(result.end).end;
  }
  return {result.answer, std::min(result.end, end)};
}

Stretch NodeQuestions::tiles_stretch(const Node& node, std::int64_t begin, std::int64_t end) const {
  const TileMap& tiles = map(node);
  const std::int64_t outer_tile = by_rows() ? tiles.tile_q() : tiles.tile_k();
  const std::int64_t inner_tile = by_rows() ? tiles.tile_k() : tiles.tile_q();
  const std::int64_t first = outer_.begin / outer_tile;
  const std::int64_t last = (outer_.end - 1) / outer_tile;
  if (last - first >= kMostParts) return {Answer::kSome, end};
  Stretch result{Answer::kSome, kUnbounded};
  for (std::int64_t i = first; i <= last; ++i) {
    const Stretch line = line_stretch(tiles.line(by_rows(), i), begin / inner_tile);
    result.answer = i == first || line.answer == result.answer ? line.answer : Answer::kSome;
    result.end = std::min(result.end, line.end);
  }
  result.end = result.end == kUnbounded ? end : std::min(end, result.end * inner_tile);
  return result;
}

Stretch NodeQuestions::joined_stretch(const Node& node, std::int64_t begin,
                                      std::int64_t end) const {
  // `decisive` from one child settles the whole as far as that child goes; else all must agree.
  const Answer decisive = node.op == Op::kAnd ? Answer::kNone : Answer::kAll;
  Stretch settled{decisive, begin};
  Stretch all{invert(decisive), end};
  const Node* last = &node + node.size;
  for (const Node* child = &node + 1; child != last; child += child->size) {
    const Stretch part = stretch(*child, begin, end);
    if (part.answer == decisive) {
      settled.end = std::max(settled.end, part.end);
      if (settled.end == end) break;
    }
    if (part.answer == Answer::kSome) all.answer = Answer::kSome;
    all.end = std::min(all.end, part.end);
  }
  return settled.end > begin ? settled : all;
}

std::int64_t NodeQuestions::steady_end(const Node& node, std::int64_t begin,
                                       std::int64_t end) const {
  if (node.is_band()) return steady_band_end(node, begin);
  if (node.is_side()) return is_inner(node) ? side_stretch(node, begin, end).end : end;
  if (node.is_comparison()) return program_.label(node).run(begin).end;
  if (node.op == Op::kTiles) return begin + 1;
  std::int64_t steady = end;
  const Node* last = &node + node.size;
  for (const Node* child = &node + 1; child != last; child += child->size) {
    steady = std::min(steady, steady_end(*child, begin, end));
  }
  return steady;
}

Stretch NodeQuestions::asked_stretch(const Node& node, std::int64_t begin, std::int64_t end) const {
  if (node.is_band()) return band_stretch(node, begin, end);
  if (node.is_side()) {
    if (is_inner(node)) return side_stretch(node, begin, end);
    const Stretch part = side_stretch(node, outer_.begin, outer_.end);
    return {part.end == outer_.end ? part.answer : Answer::kSome, end};
  }
  switch (node.op) {
    case Op::kAll:
      return {Answer::kAll, end};
    case Op::kNone:
      return {Answer::kNone, end};
    case Op::kTable:
      return table_stretch(node, begin, end);
    case Op::kTiles:
      return tiles_stretch(node, begin, end);
    case Op::kNot: {
      const Stretch child = stretch(*(&node + 1), begin, end);
      return {invert(child.answer), child.end};
    }
    case Op::kAnd:
    case Op::kOr:
      return joined_stretch(node, begin, end);
    default:
      return comparison_stretch(node, begin, end);
  }
}

}  // namespace perpend
