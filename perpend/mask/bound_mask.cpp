#include "perpend/mask/bound_mask.h"

#include <algorithm>

#include "perpend/mask/mask_node.h"

namespace perpend {
namespace {

using Stretch = BoundMask::Stretch;

// The inner positions that `outer` is paired with, for primitives.
Range band(const MaskNode& node, Sweep sweep, std::int64_t outer) {
  return sweep == Sweep::kRows ? node.band(outer) : node.column_band(outer);
}

// Both ends of the bands of `outer` move one way only, so the first and the last tell all.
Stretch band_stretch(const MaskNode& node, Sweep sweep, Range outer, Range inner) {
  const Range a = band(node, sweep, outer.begin);
  const Range b = band(node, sweep, outer.end - 1);
  const Range common = intersect(a, b);
  const Range hull{std::min(a.begin, b.begin), std::max(a.end, b.end)};
  const std::int64_t from = inner.begin;
  const auto until = [&](std::int64_t end) { return std::min(end, inner.end); };
  if (hull.empty() || from >= hull.end) return {Answer::kNone, inner.end};
  if (from < hull.begin) return {Answer::kNone, until(hull.begin)};
  if (common.contains(from)) return {Answer::kAll, until(common.end)};
  if (!common.empty() && from < common.begin) return {Answer::kSome, until(common.begin)};
  return {Answer::kSome, until(hull.end)};
}

Answer invert(Answer answer) {
  if (answer == Answer::kSome) return answer;
  return answer == Answer::kAll ? Answer::kNone : Answer::kAll;
}

std::uint64_t low_bits(std::int64_t count) {
  if (count <= 0) return 0;
  return count >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
}

Stretch stretch_of(const MaskNode& node, Sweep sweep, Range outer, Range inner) {
  if (!node.is_operator()) return band_stretch(node, sweep, outer, inner);
  if (node.kind == MaskNode::Kind::kNot) {
    const Stretch child = stretch_of(node.children.front().node(), sweep, outer, inner);
    return {invert(child.answer), child.end};
  }
  // `decisive` from one child settles the whole as far as that child goes; else all must agree.
  const Answer decisive = node.kind == MaskNode::Kind::kAnd ? Answer::kNone : Answer::kAll;
  Stretch settled{decisive, inner.begin};
  Stretch all{invert(decisive), inner.end};
  for (const Mask& child : node.children) {
    const Stretch part = stretch_of(child.node(), sweep, outer, inner);
    if (part.answer == decisive) settled.end = std::max(settled.end, part.end);
    if (part.answer == Answer::kSome) all.answer = Answer::kSome;
    all.end = std::min(all.end, part.end);
  }
  return settled.end > inner.begin ? settled : all;
}

std::uint64_t word_of(const MaskNode& node, Sweep sweep, std::int64_t outer, std::int64_t begin) {
  if (!node.is_operator()) {
    const Range live = band(node, sweep, outer);
    return low_bits(live.end - begin) & ~low_bits(live.begin - begin);
  }
  if (node.kind == MaskNode::Kind::kNot) {
    return ~word_of(node.children.front().node(), sweep, outer, begin);
  }
  const bool is_and = node.kind == MaskNode::Kind::kAnd;
  std::uint64_t bits = is_and ? ~std::uint64_t{0} : 0;
  for (const Mask& child : node.children) {
    const std::uint64_t part = word_of(child.node(), sweep, outer, begin);
    bits = is_and ? bits & part : bits | part;
  }
  return bits;
}

void append_class_of(const MaskNode& node, Sweep sweep, Range outer, Range inner,
                     std::vector<std::int64_t>& key) {
  const Stretch stretch = stretch_of(node, sweep, outer, inner);
  const bool decided = stretch.answer != Answer::kSome && stretch.end == inner.end;
  key.push_back(decided ? static_cast<std::int64_t>(stretch.answer) : -1);
  if (decided) return;
  for (const Mask& child : node.children) append_class_of(child.node(), sweep, outer, inner, key);
  if (node.is_operator()) return;
  const Range keys = sweep == Sweep::kRows ? inner : outer;
  const Range queries = sweep == Sweep::kRows ? outer : inner;
  key.push_back(node.kind == MaskNode::Kind::kSink ? keys.begin : queries.begin - keys.begin);
}

}  // namespace

bool Mask::visible(std::int64_t q, std::int64_t k) const { return BoundMask(*this).visible(q, k); }

BoundMask::BoundMask(const Mask& mask, HeadIndex /*head*/) : mask_(mask) {}

bool BoundMask::visible(std::int64_t q, std::int64_t k) const {
  return (word(Sweep::kRows, q, k) & 1U) != 0;
}

Answer BoundMask::answer(Range queries, Range keys) const {
  const Stretch part = stretch(Sweep::kRows, queries, keys);
  return part.end == keys.end ? part.answer : Answer::kSome;
}

Stretch BoundMask::stretch(Sweep sweep, Range outer, Range inner) const {
  return stretch_of(mask_.node(), sweep, outer, inner);
}

std::uint64_t BoundMask::word(Sweep sweep, std::int64_t outer, std::int64_t inner_begin) const {
  return word_of(mask_.node(), sweep, outer, inner_begin);
}

void BoundMask::append_class(Sweep sweep, Range outer, Range inner,
                             std::vector<std::int64_t>& key) const {
  append_class_of(mask_.node(), sweep, outer, inner, key);
}

}  // namespace perpend
