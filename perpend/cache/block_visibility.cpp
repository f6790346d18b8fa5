#include "perpend/cache/block_visibility.h"

#include <algorithm>

#include "perpend/core/error.h"

namespace perpend {
namespace {

std::vector<BoundMask> distinct_heads(const Mask& mask, int num_q_heads, int num_kv_heads) {
  std::vector<BoundMask> heads;
  for (int head = 0; head < num_q_heads; ++head) {
    const BoundMask bound(mask, {head, head / (num_q_heads / num_kv_heads)});
    if (std::find(heads.begin(), heads.end(), bound) == heads.end()) heads.push_back(bound);
  }
  return heads;
}

bool sees_everything(const Mask& mask) { return mask == Mask::causal() || mask == Mask::all(); }

}  // namespace

BlockVisibility::BlockVisibility(std::span<const Mask> layer_masks, std::int64_t block_size,
                                 std::int64_t max_len, int num_q_heads, int num_kv_heads)
    : block_size_(block_size) {
  check(block_size > 0, concat("block visibility: block size must be positive (", block_size, ")"));
  for (const Mask& mask : layer_masks) {
    auto known = std::ranges::find(masks_, mask, &LayerMask::mask);
    if (known == masks_.end()) {
      masks_.push_back({mask,
                        distinct_heads(mask, num_q_heads, num_kv_heads),
                        Retention(mask, max_len, num_q_heads, num_kv_heads),
                        {}});
      known = std::prev(masks_.end());
    }
    mask_of_layer_.push_back(static_cast<int>(known - masks_.begin()));
  }
  for (int layer = 1; layer < num_layers(); ++layer) {
    const Mask& below = layer_masks[static_cast<std::size_t>(layer - 1)];
    if (sees_everything(below)) break;
    if (layer_masks[static_cast<std::size_t>(layer)] != below) checkpoints_.push_back(layer);
  }
}

std::span<const std::int32_t> BlockVisibility::seen(int layer, std::int32_t block) {
  LayerMask& mask =
      masks_[static_cast<std::size_t>(mask_of_layer_[static_cast<std::size_t>(layer)])];
  while (static_cast<std::int32_t>(mask.seen.size()) <= block) {
    mask.seen.push_back(find_seen(mask, static_cast<std::int32_t>(mask.seen.size())));
  }
  return mask.seen[static_cast<std::size_t>(block)];
}

std::vector<std::int32_t> BlockVisibility::find_seen(const LayerMask& mask,
                                                     std::int32_t block) const {
  std::vector<std::int32_t> seen;
  for (std::int32_t other = 0; other < block; ++other) {
    const bool visible = std::any_of(mask.heads.begin(), mask.heads.end(), [&](const auto& head) {
      return head.answer(rows_of(block), rows_of(other)) != Answer::kNone;
    });
    if (visible) seen.push_back(other);
  }
  return seen;
}

bool BlockVisibility::is_kept(int layer, Range keys, std::int64_t next_q) const {
  const auto index = static_cast<std::size_t>(mask_of_layer_[static_cast<std::size_t>(layer)]);
  return masks_[index].retention.may_be_seen(keys, next_q);
}

}  // namespace perpend
