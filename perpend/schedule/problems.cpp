#include "perpend/schedule/problems.h"

#include <algorithm>

#include "perpend/mask/mask_node.h"

namespace perpend {
namespace {

// Whether a mask may look different from head to head.
bool sees_heads(const MaskNode& node) {
  return node.kind == MaskNode::Kind::kHeads ||
         (node.kind == MaskNode::Kind::kEvery && node.c != 0) ||
         std::ranges::any_of(node.children,
                             [](const Mask& child) { return sees_heads(child.node()); });
}

}  // namespace

Axes axes_of(const SequenceShape& sequence, Sweep sweep) {
  if (sweep == Sweep::kRows) return {sequence.q_offset, sequence.q_len, 0, sequence.kv_len};
  return {0, sequence.kv_len, sequence.q_offset, sequence.q_len};
}

Problems::Problems(std::span<const Mask> masks, const AttentionShape& shape, Sweep sweep,
                   bool share) {
  std::vector<std::vector<std::int32_t>> heads;  // of each mask
  for (const Mask& mask : masks) {
    heads.push_back(bind(mask, shape, share));
    heads_apart_ = std::max(heads_apart_, heads.back().size());
  }
  WordDictionary known;
  std::vector<std::uint64_t> key;
  for (std::size_t s = 0; s < shape.sequences.size(); ++s) {
    const Axes axes = axes_of(shape.sequences[s], sweep);
    const std::vector<std::int32_t>& mask_of_head = heads[heads.size() == 1 ? 0 : s];
    key.assign({share ? 0 : static_cast<std::uint64_t>(s)});
    for (const std::int64_t length :
         {axes.outer_offset, axes.outer_len, axes.inner_offset, axes.inner_len}) {
      key.push_back(static_cast<std::uint64_t>(length));
    }
    key.insert(key.end(), mask_of_head.begin(), mask_of_head.end());
    const WordDictionary::Place kind = known.add(key);
    kind_of_.push_back(kind.index);
    if (kind.is_new) add_kind(mask_of_head, axes, shape.group_size(), share);
  }
}

std::vector<std::int32_t> Problems::bind(const Mask& mask, const AttentionShape& shape,
                                         bool share) {
  std::vector<std::int32_t> of_head;
  const int num_heads = !share || sees_heads(mask.node()) ? shape.num_q_heads : 1;
  for (int head = 0; head < num_heads; ++head) {
    BoundMask bound(mask, {head, head / shape.group_size()});
    const auto found = share ? std::ranges::find(masks_, bound) : masks_.end();
    of_head.push_back(static_cast<std::int32_t>(found - masks_.begin()));
    if (found == masks_.end()) add_mask(std::move(bound), share);
  }
  if (share &&
      std::ranges::count(of_head, of_head.front()) == static_cast<std::ptrdiff_t>(of_head.size())) {
    of_head.resize(1);
  }
  return of_head;
}

void Problems::add_mask(BoundMask mask, bool share) {
  const auto alike = [&](const BoundMask& known) { return known.shares_classes(mask); };
  const auto found = share ? std::ranges::find_if(masks_, alike) : masks_.end();
  classes_.push_back(static_cast<std::int32_t>(found - masks_.begin()));
  masks_.push_back(std::move(mask));
}

void Problems::add_kind(std::span<const std::int32_t> mask_of_head, const Axes& axes,
                        int group_size, bool share) {
  Kind kind{problems_.size()};
  for (std::size_t head = 0; head < heads_apart_; ++head) {
    const std::int32_t mask = mask_of_head[mask_of_head.size() == 1 ? 0 : head];
    const auto known = std::span(problems_).subspan(kind.first);
    const auto found = share ? std::ranges::find(known, mask, &Problem::mask) : known.end();
    of_head_.push_back(static_cast<std::int32_t>(kind.first) +
                       static_cast<std::int32_t>(found - known.begin()));
    if (found == known.end()) {
      problems_.push_back({mask, axes, classes_[static_cast<std::size_t>(mask)]});
    }
    kind.groups_differ |= head % static_cast<std::size_t>(group_size) != 0 &&
                          of_head_.back() != of_head_[of_head_.size() - 2];
  }
  kind.count = problems_.size() - kind.first;
  kinds_.push_back(kind);
}

}  // namespace perpend
