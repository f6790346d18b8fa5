#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include <gtest/gtest.h>

#include "perpend/kernels/cuda/schedule_image.h"

// The pairs that an image of a schedule holds.

namespace perpend {

inline bool bit_of(std::span<const std::uint32_t> fragments, int keys, int row, int column) {
  const int thread = row / 16 * 32 + row % 8 * 4 + column % 8 / 2;
  const int j = column / 8 * 4 + row % 16 / 8 * 2 + column % 2;
  EXPECT_EQ(device::fragment_row(thread, j), row);
  EXPECT_EQ(device::fragment_column(thread, j), column);
  const auto word = static_cast<std::size_t>(device::fragment_word(thread, j, keys));
  return (fragments[word] >> device::fragment_bit(j) & 1U) != 0;
}

// The live keys of one row of an item's tile, as a kernel finds them.
inline std::vector<int> keys_of_row(const ScheduleImage& image, const device::Item& item,
                                    int tile_row) {
  std::vector<int> keys;
  for (int i = 0; i < item.num_partial + item.num_full; ++i) {
    const device::Step& step = image.steps.at(static_cast<std::uint32_t>(item.list_begin + i));
    const bool has_bitmap = (step.flags & device::Step::kHasBitmap) != 0;
    EXPECT_TRUE(has_bitmap == (i < item.num_partial) || (image.skips_parts && !has_bitmap));
    const bool has_part = (step.flags >> (tile_row / device::kPartRows) & 1U) != 0;
    if (image.skips_parts && !has_part) continue;
    const bool gathered = (step.flags & device::Step::kIsGathered) != 0;
    const int boxes =
        static_cast<int>(step.flags >> device::Step::kBoxesShift & device::Step::kBoxesMask) + 1;
    const int columns = gathered ? boxes * image.box_rows : image.keys;
    for (int column = 0; column < image.keys; ++column) {
      if ((step.flags & device::Step::kHasBitmap) != 0) {
        const auto size = static_cast<std::size_t>(device::fragment_words(image.keys));
        const std::size_t first = size * (step.flags >> device::Step::kBitmapShift);
        if (!bit_of(std::span(image.bitmaps).subspan(first, size), image.keys, tile_row, column)) {
          continue;
        }
      }
      EXPECT_LT(column, columns) << "a column behind the last box is live";
      const int half = 2 * (tile_row / device::kPartRows) + column / 64;
      EXPECT_TRUE(!has_part || (step.flags >> (device::Step::kHalvesShift + half) & 1U) != 0);
      const std::int64_t box = std::int64_t{step.begin} + column / image.box_rows;
      keys.push_back(gathered
                         ? image.sub_tiles[static_cast<std::size_t>(box)] + column % image.box_rows
                         : step.begin + column);
    }
  }
  std::ranges::sort(keys);
  return keys;
}

}  // namespace perpend
