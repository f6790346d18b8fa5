#include <algorithm>

#include "perpend/mask/mask_questions.h"

namespace perpend {
namespace {

using Op = MaskProgram::Op;

// How many parts of a rectangle are listed before its place names it instead.
constexpr int kMostParts = 64;

// What the numbers of an undecided node say; decided ones are their answer (>= 0).
enum Form : std::int64_t {
  kOperator = -1,
  kDistance = -2,     // outer.begin - inner.begin
  kBlocks = -3,       // residue of outer.begin, outer.begin - inner.begin
  kOneBand = -4,      // its ends
  kBands = -5,        // ends of each run of the outer axis with the ends of its band
  kPlace = -6,        // absolute
  kTurns = -7,        // first answer, where it turns
  kPhase = -8,        // position in the period
  kLabels = -9,       // runs of the outer and of the inner axis with their labels
  kTileStates = -10,  // places inside tiles, tiles
};

bool is_blocks(const LabelNode& label) {
  return label.kind == LabelNode::Kind::kBlock || label.kind == LabelNode::Kind::kFrame;
}

std::int64_t floor_mod(std::int64_t a, std::int64_t b) { return a - floor_div(a, b) * b; }

// Runs of `positions` as (end relative to the begin, label - base); false when there are too many.
bool append_runs(const LabelNode& label, Range positions, std::int64_t base,
                 std::vector<std::int64_t>& key) {
  int parts = 0;
  for (std::int64_t p = positions.begin; p < positions.end;) {
    if (++parts > kMostParts) return false;
    const std::int64_t end = std::min(label.run(p).end, positions.end);
    key.push_back(end - positions.begin);
    key.push_back(label.at(p) - base);
    p = end;
  }
  return true;
}

Answer append_answer(Answer answer, std::vector<std::int64_t>& key) {
  key.push_back(static_cast<std::int64_t>(answer));
  return answer;
}

void replace_by_place(std::size_t size, std::int64_t outer, std::int64_t inner,
                      std::vector<std::int64_t>& key) {
  key.resize(size);
  key.insert(key.end(), {kPlace, outer, inner});
}

}  // namespace

Answer NodeQuestions::append_band_class(const Node& node, Range inner,
                                        std::vector<std::int64_t>& key) const {
  const auto relative = [&](std::int64_t position) {
    return std::clamp(position, inner.begin, inner.end) - inner.begin;
  };
  const Range first = band(node, outer_.begin);
  const Range last = band(node, outer_.end - 1);
  // Both ends of the bands move one way only, so the first and the last tell all.
  const Range common = intersect(first, last);
  const Range hull{std::min(first.begin, last.begin), std::max(first.end, last.end)};
  if (intersect(hull, inner).empty()) return append_answer(Answer::kNone, key);
  if (common.begin <= inner.begin && common.end >= inner.end) {
    return append_answer(Answer::kAll, key);
  }
  if (first == last) {
    key.insert(key.end(), {kOneBand, relative(first.begin), relative(first.end)});
    return Answer::kSome;
  }
  if (node.op == Op::kCausal || node.op == Op::kWindow) {
    key.insert(key.end(), {kDistance, outer_.begin - inner.begin});
    return Answer::kSome;
  }
  if (node.op == Op::kNear || is_blocks(program_.label(node))) {
    const bool near = node.op == Op::kNear;
    const std::int64_t size = near ? node.a : program_.label(node).args[0];
    const std::int64_t start = near ? 0 : program_.label(node).args[1];
    key.insert(key.end(),
               {kBlocks, floor_mod(outer_.begin - start, size), outer_.begin - inner.begin});
    return Answer::kSome;
  }
  const std::size_t size = key.size();
  key.push_back(kBands);
  int parts = 0;
  for (std::int64_t p = outer_.begin; p < outer_.end;) {
    if (++parts > kMostParts) {
      replace_by_place(size, outer_.begin, inner.begin, key);
      break;
    }
    const Range live = band(node, p);
    p = std::min(program_.label(node).run(p).end, outer_.end);
    key.insert(key.end(), {p - outer_.begin, relative(live.begin), relative(live.end)});
  }
  return Answer::kSome;
}

Answer NodeQuestions::append_side_class(const Node& node, Range positions,
                                        std::vector<std::int64_t>& key) const {
  Stretch part = side_stretch(node, positions.begin, positions.end);
  if (part.end == positions.end) return append_answer(part.answer, key);
  if (node.op == Op::kEvery) {
    key.insert(key.end(), {kPhase, (positions.begin + node.c * node.a) % (node.a * node.b)});
    return Answer::kSome;
  }
  const std::size_t size = key.size();
  key.push_back(kTurns);
  for (int parts = 1;; ++parts) {
    key.push_back(static_cast<std::int64_t>(part.answer));
    key.push_back(part.end - positions.begin);
    if (part.end == positions.end) break;
    if (parts == kMostParts) {
      replace_by_place(size, positions.begin, 0, key);
      break;
    }
    part = side_stretch(node, part.end, positions.end);
  }
  return Answer::kSome;
}

void NodeQuestions::append_comparison_class(const Node& node, const LabelNode& label, Range outer,
                                            Range inner, std::vector<std::int64_t>& key) const {
  if (label.kind == LabelNode::Kind::kWithin) {
    const std::int64_t period = label.args[0];
    const std::int64_t outer_begin = outer.begin % period;
    const std::int64_t inner_begin = inner.begin % period;
    if (outer_begin + outer.size() <= period && inner_begin + inner.size() <= period) {
      return append_comparison_class(node, label.inner->node(),
                                     {outer_begin, outer_begin + outer.size()},
                                     {inner_begin, inner_begin + inner.size()}, key);
    }
  }
  const bool differences = node.op != Op::kTable;
  if (differences && is_blocks(label)) {
    key.insert(key.end(), {kBlocks, floor_mod(outer.begin - label.args[1], label.args[0]),
                           outer.begin - inner.begin});
    return;
  }
  const std::size_t size = key.size();
  const std::int64_t base = differences ? label.at(outer.begin) : 0;
  key.push_back(kLabels);
  if (!append_runs(label, outer, base, key) || !append_runs(label, inner, base, key)) {
    replace_by_place(size, outer.begin, inner.begin, key);
  }
}

void NodeQuestions::append_tiles_class(const Node& node, Range inner,
                                       std::vector<std::int64_t>& key) const {
  const TileMap& tiles = map(node);
  const std::int64_t outer_tile = by_rows() ? tiles.tile_q() : tiles.tile_k();
  const std::int64_t inner_tile = by_rows() ? tiles.tile_k() : tiles.tile_q();
  const std::int64_t last_line = (outer_.end - 1) / outer_tile;
  const std::int64_t first_place = inner.begin / inner_tile;
  const std::int64_t last_place = (inner.end - 1) / inner_tile;
  const std::size_t size = key.size();
  key.insert(key.end(), {kTileStates, outer_.begin % outer_tile, inner.begin % inner_tile});
  for (std::int64_t line_idx = outer_.begin / outer_tile; line_idx <= last_line; ++line_idx) {
    if (last_place - first_place >= kMostParts || key.size() - size > 2 * kMostParts) {
      return replace_by_place(size, outer_.begin, inner.begin, key);
    }
    const TileMap::Line line = tiles.line(by_rows(), line_idx);
    const auto* found =
        std::lower_bound(line.places.data(), line.places.data() + line.places.size(), first_place);
    for (auto i = static_cast<std::size_t>(found - line.places.data());
         i < line.places.size() && line.places[i] <= last_place; ++i) {
      key.push_back(line.places[i] - first_place);
      key.push_back(line.bitmaps[i]);
    }
    key.push_back(kTileStates);
  }
}

Answer NodeQuestions::append_operator_class(const Node& node, Range inner,
                                            std::vector<std::int64_t>& key) const {
  const std::size_t size = key.size();
  key.push_back(kOperator);
  const auto decided = [&](Answer answer) {
    key.resize(size);
    return append_answer(answer, key);
  };
  if (node.op == Op::kNot) {
    const Answer child = append_class(*(&node + 1), inner, key);
    return child == Answer::kSome ? child : decided(invert(child));
  }
  const Answer decisive = node.op == Op::kAnd ? Answer::kNone : Answer::kAll;
  bool all_agree = true;
  const Node* end = &node + node.size;
  for (const Node* child = &node + 1; child != end; child += child->size) {
    const Answer answer = append_class(*child, inner, key);
    if (answer == decisive) return decided(decisive);
    all_agree &= answer != Answer::kSome;
  }
  return all_agree ? decided(invert(decisive)) : Answer::kSome;
}

Answer NodeQuestions::append_class(const Node& node, Range inner,
                                   std::vector<std::int64_t>& key) const {
  if (node.is_band()) return append_band_class(node, inner, key);
  if (node.is_side()) return append_side_class(node, is_inner(node) ? inner : outer_, key);
  if (node.is_operator()) return append_operator_class(node, inner, key);
  const Stretch whole = stretch(node, inner.begin, inner.end);
  if (whole.answer != Answer::kSome && whole.end == inner.end) {
    return append_answer(whole.answer, key);
  }
  if (node.is_comparison()) {
    append_comparison_class(node, program_.label(node), outer_, inner, key);
  } else {
    append_tiles_class(node, inner, key);
  }
  return Answer::kSome;
}

}  // namespace perpend
