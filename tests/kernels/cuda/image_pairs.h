#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include <gtest/gtest.h>

#include "perpend/kernels/cuda/column_image.h"
#include "perpend/kernels/cuda/schedule_image.h"

// The pairs that images of schedules hold.

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

// The live queries of one key of an item for one head of its group, as a kernel finds them.
inline std::vector<int> queries_of_key(const ColumnImage& image, const device::KeyItem& item,
                                       int key, int head) {
  std::vector<int> queries;
  for (int i = 0; i < item.num_partial + item.num_full; ++i) {
    const int place = item.list_begin + i;
    const device::KeyStep& entry = image.steps[static_cast<std::size_t>(place)];
    const device::Step& step = entry.step;
    EXPECT_EQ((step.flags & device::Step::kHasBitmap) != 0, i < item.num_partial);
    if (entry.head != head) continue;
    const bool gathered = (step.flags & device::Step::kIsGathered) != 0;
    const int boxes =
        static_cast<int>(step.flags >> device::Step::kBoxesShift & device::Step::kBoxesMask) + 1;
    const int columns = gathered ? boxes * image.box_rows : device::kGradientQueries;
    const bool has_part = (step.flags >> (key / device::kPartRows) & 1U) != 0;
    for (int column = 0; column < device::kGradientQueries; ++column) {
      if ((step.flags & device::Step::kHasBitmap) != 0) {
        const auto size =
            static_cast<std::size_t>(device::fragment_words(device::kGradientQueries));
        const std::size_t first = size * (step.flags >> device::Step::kBitmapShift);
        if (!bit_of(std::span(image.bitmaps).subspan(first, size), device::kGradientQueries, key,
                    column)) {
          continue;
        }
      }
      EXPECT_TRUE(has_part) << "a part is live that skips";
      EXPECT_LT(column, columns) << "a column behind the last box is live";
      const int box = step.begin + column / image.box_rows;
      const int query =
          gathered ? image.sub_tiles[static_cast<std::size_t>(box)] + column % image.box_rows
                   : step.begin + column;
      // Those behind the end have no weight, by their statistics.
      EXPECT_LT(query, item.q_len + device::kStatisticsPad);
      if (query < item.q_len) queries.push_back(query);
    }
  }
  std::ranges::sort(queries);
  return queries;
}

}  // namespace perpend
