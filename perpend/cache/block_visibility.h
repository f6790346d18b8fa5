#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "perpend/mask/bound_mask.h"
#include "perpend/mask/mask.h"
#include "perpend/mask/retention.h"

namespace perpend {

// What the blocks of a sequence see of each other, layer by layer: all that prefill planning and
// the prefix cache know of masks. A block runs when the blocks before it are in the cache and those
// after it are not, so that it sees none of them whatever the mask says.
class BlockVisibility {
 public:
  // One mask for each layer; `max_len` is the longest the sequence may become. Throws
  // InvalidArgument for masks with names that are not bound.
  BlockVisibility(std::span<const Mask> layer_masks, std::int64_t block_size, std::int64_t max_len,
                  int num_q_heads = 1, int num_kv_heads = 1);

  int num_layers() const { return static_cast<int>(mask_of_layer_.size()); }
  std::int64_t block_size() const { return block_size_; }

  // The blocks before `block` of which some row of `block` may see a key in `layer`, ascending.
  // Never one too few. Valid until the next call.
  std::span<const std::int32_t> seen(int layer, std::int32_t block);

  // Whether a query at or after `next_q` may see one of `keys` in `layer`. Never wrongly false.
  bool is_kept(int layer, Range keys, std::int64_t next_q) const;

  // Positions of a block.
  Range rows_of(std::int32_t block) const {
    return {block * block_size_, (block + 1) * block_size_};
  }

  // The layers whose input rows are worth keeping, since from there on an edit reaches further:
  // where the masks change below the first layer that sees everything. Ascending, never 0.
  std::span<const int> checkpoints() const { return checkpoints_; }

 private:
  struct LayerMask {
    Mask mask;
    std::vector<BoundMask> heads;  // distinct ones
    Retention retention;
    std::vector<std::vector<std::int32_t>> seen;  // [block]
  };

  std::vector<std::int32_t> find_seen(const LayerMask& mask, std::int32_t block) const;

  std::int64_t block_size_;
  std::vector<LayerMask> masks_;    // distinct ones
  std::vector<int> mask_of_layer_;  // index into masks_
  std::vector<int> checkpoints_;
};

}  // namespace perpend
