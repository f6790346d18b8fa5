#pragma once

#include <cstdint>
#include <vector>

#include "perpend/kernels/block_attention.h"
#include "perpend/kernels/cuda/device/block_lists.h"

namespace perpend {

// What of a plan for lists of blocks does not depend on the lists. Made without a GPU.
struct BlockListImage {
  device::BlockGeometry geometry{};
  std::vector<std::uint32_t> flags;      // of steps: their halves and bitmap, see flags_index()
  std::vector<std::uint32_t> cut_flags;  // of steps that the diagonal cuts, see cut_index()
  std::vector<std::uint32_t> bitmaps;    // [bitmaps, device::fragment_words(keys)]
  int box_rows = 0;
  // Two lists an item, of which a step may have one only: parts test for themselves.
  bool skips_parts = false;
};

// Shared memory that every launch has.
constexpr int kPlanningBytes = 48 << 10;

// Warps of a CTA that makes steps: their words fit into that memory.
int planning_warps(const device::BlockGeometry& geometry);

// Throws InvalidArgument as make_block_attention_plan() does.
BlockListImage make_block_list_image(const BlockAttentionSpec& spec);

}  // namespace perpend
