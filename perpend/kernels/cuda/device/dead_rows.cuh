#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/attention_image.h"
#include "perpend/kernels/cuda/device/ptx.cuh"

// Rows of a tile behind the end of their sequence. In a ragged batch they are the next one's: their
// weights are 0, but where that has a NaN or an infinity, 0 times it would be NaN. A warp that has
// nothing else to do stands between copies and products and makes them zero. In a dense batch the
// copy engine reads zeros there, and no warp is between.

namespace perpend::device {

// Rows [first, end) of a tile of kRows rows, by a warp whose lanes must meet before it lets others
// see them.
template <class Layout, int kRows>
__device__ __forceinline__ void zero_rows(std::uint32_t tile, int first, int end) {
  if (first >= end) return;
  const std::uint32_t behind = tile + end * Layout::kRowBytes;
#pragma unroll 1
  for (std::uint32_t to = tile + first * Layout::kRowBytes + threadIdx.x % 32 * 16; to < behind;
       to += 32 * 16) {
#pragma unroll
    for (int panel = 0; panel < Layout::kPanels; ++panel) {
      store_shared_four(to + panel * kRows * Layout::kRowBytes, 0.0F, 0.0F, 0.0F, 0.0F);
    }
  }
  fence_engines();
}

// Those behind the `length` rows of their sequence.
template <class Layout, int kRows, class Lists>
__device__ __forceinline__ void zero_dead_rows(std::uint32_t tile, const Lists& lists, Step step,
                                               std::int32_t length) {
  if ((step.flags & Step::kIsGathered) == 0) {
    return zero_rows<Layout, kRows>(tile, length - step.begin, kRows);
  }
  const int boxes = static_cast<int>(step.flags >> Step::kBoxesShift & Step::kBoxesMask) + 1;
#pragma unroll 1
  for (int box = 0; box < boxes; ++box) {
    const std::int32_t there = length - lists.sub_tiles[step.begin + box];
    const int first = box * lists.box_rows;
    zero_rows<Layout, kRows>(tile, first + max(there, 0), first + lists.box_rows);
  }
}

}  // namespace perpend::device
