#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/attention_image.h"

// What host and device know of a schedule whose long lists are cut, beside attention_image.h.

namespace perpend::device {

// How much of the arrays there is: read by the kernels, so that a captured launch runs what lies in
// them then.
struct alignas(16) DecodeCounts {
  std::int32_t num_items;
  std::int32_t num_sums;
};

constexpr int kRowsOfSumCta = 4;  // rows that one CTA adds up, a warp each

// Some rows whose o is a sum over the items that a list was cut into: those of `item`, the first of
// them, from `first_row` on, as many as a CTA adds up. Item::split_row of the next item is larger
// by the rows of one.
struct alignas(16) SplitSum {
  Item item;
  std::int32_t num_items;
  std::int32_t first_row;
};

// Rows of an item with a query: (query, head) pairs where heads of a group share its tile.
constexpr std::int32_t rows_of_item(const Item& item, std::int32_t group_size) {
  return item.q_size * ((item.kv_head_and_packing & 1) != 0 ? group_size : 1);
}

// o and lse (natural) of the rows of items that were cut.
struct SplitRows {
  float* o;  // [rows, head_dim as the kernel pads it]
  float* lse;
};

}  // namespace perpend::device
