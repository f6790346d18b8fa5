#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/attention_image.h"
#include "perpend/kernels/cuda/device/item_order.h"

// What host and device know of plans that are made from lists of blocks (block_attention.h).

namespace perpend::device {

constexpr std::int32_t kHeadsInOrder = 32;  // key/value heads among which items are sorted

// How lists become items and steps. A unit is what one copy brings: a key block, or the keys of a
// step where blocks are larger. A list is that of one query block; an item has one, or those of two
// query blocks of a part's rows each.
struct BlockGeometry {
  std::int32_t q_len;
  std::int32_t kv_len;
  std::int32_t q_offset;
  std::int32_t q_block;
  std::int32_t num_kv_heads;
  std::int32_t num_list_heads;
  std::int32_t group_size;
  std::int32_t max_blocks;
  std::int32_t num_q_blocks;
  std::int32_t num_kv_blocks;
  std::int32_t unit_rows;
  std::int32_t units_per_step_log;  // units of a gathered step; 0: steps are contiguous
  std::int32_t units_per_block;
  std::int32_t num_units;
  std::int32_t item_queries;
  std::int32_t items_per_block;  // of a list; 1 if an item has two lists
  std::int32_t items_per_head;
  std::int32_t num_items;
  std::int32_t lists_per_item;  // 1 or 2
  std::int32_t steps_per_item;  // room
  std::int32_t units_per_item;  // room
  std::int32_t cuts_per_list;   // steps that the diagonal may cut
  bool causal;
  bool is_packed;

  constexpr std::int32_t units_per_step() const { return 1 << units_per_step_log; }
  constexpr std::int32_t heads_of_item() const { return is_packed ? group_size : 1; }
  // Items of a head stand together, heads of a key/value head too.
  constexpr std::int32_t items_per_kv_head() const {
    return items_per_head * group_size / heads_of_item();
  }
  // Shared memory of a warp: a bit for each unit of a list.
  constexpr std::int32_t words_per_list() const { return (num_units + 31) / 32; }
  constexpr std::int32_t words_per_item() const { return lists_per_item * words_per_list(); }
  // Rows of the last unit.
  constexpr std::int32_t tail_rows() const { return kv_len - (num_units - 1) * unit_rows; }
  constexpr std::int32_t queries_of_list() const { return item_queries / lists_per_item; }
  constexpr std::uint32_t parts_of_list(int list) const {
    return lists_per_item == 1 ? Step::kBothParts : 1U << list;
  }

  // Where the flags of a step that is no cut stand among the prepared ones: `boxes` units, the last
  // of them perhaps the last of the sequence.
  constexpr std::int32_t flags_index(std::uint32_t parts, std::int32_t boxes, bool has_tail) const {
    const std::int32_t of_parts = (static_cast<std::int32_t>(parts) - 1) * units_per_step();
    return (of_parts + boxes - 1) * 2 + (has_tail ? 1 : 0);
  }
  constexpr std::int32_t num_flags() const { return 3 * units_per_step() * 2; }
  // Of cut `cut` of a list that has those of its units whose bits are set in `subset`, the first
  // query at `phase` positions after the first unit's first key.
  constexpr std::int32_t cut_index(int list, std::int32_t phase, std::int32_t cut,
                                   std::uint32_t subset) const {
    return (((list * unit_rows + phase) * cuts_per_list + cut) << units_per_step()) +
           static_cast<std::int32_t>(subset);
  }
  constexpr std::int32_t num_cut_flags() const {
    return (lists_per_item * unit_rows * cuts_per_list) << units_per_step();
  }
};

// An item by its place before items are sorted.
struct BlockItem {
  std::int32_t batch;
  std::int32_t head;     // query head, or key/value head if items are packed
  std::int32_t q_block;  // of the first list
  std::int32_t q_begin;
  std::int32_t q_size;
};

constexpr BlockItem block_item(const BlockGeometry& g, std::int32_t index) {
  const std::int32_t row = index / g.items_per_head;
  const std::int32_t in_head = index % g.items_per_head;
  const std::int32_t heads = g.num_kv_heads * g.group_size / g.heads_of_item();
  BlockItem item{row / heads, row % heads, 0, 0, 0};
  if (g.lists_per_item == 2) {
    item.q_block = 2 * in_head;
    item.q_begin = in_head * g.item_queries;
  } else {
    item.q_block = in_head / g.items_per_block;
    item.q_begin = item.q_block * g.q_block + in_head % g.items_per_block * g.item_queries;
  }
  std::int32_t end = item.q_begin + g.item_queries;
  const std::int32_t end_of_block = (item.q_block + g.lists_per_item) * g.q_block;
  end = end < end_of_block ? end : end_of_block;
  end = end < g.q_len ? end : g.q_len;
  item.q_size = end - item.q_begin;
  return item;
}

struct StepCounts {
  std::int32_t num_partial;
  std::int32_t num_full;
};

// Strides in elements.
struct ListStrides {
  std::int64_t batch;
  std::int64_t head;
  std::int64_t q_block;
};

// The lists as they are given.
struct BlockIndices {
  const std::int32_t* block_indices;
  const std::int32_t* num_blocks;  // null: all count
  ListStrides index_strides;
  ListStrides count_strides;
};

// All pointers are to memory of the device.
struct BlockListParams {
  BlockGeometry geometry;
  BlockIndices lists;
  const std::uint32_t* flags;      // [num_flags()], see flags_index()
  const std::uint32_t* cut_flags;  // [num_cut_flags()]
  StepCounts* counts;              // [num_items], in the order of block_item()
  std::uint8_t* buckets;           // [num_items] likewise, see order_bucket()
  Step* steps;                     // [num_items, steps_per_item]
  std::int32_t* sub_tiles;         // [num_items, units_per_item]
  Item* items;                     // [num_items], sorted
  std::int32_t warps_per_cta;      // of the launch that makes the steps

  constexpr ItemSections sections() const {
    return item_sections(geometry.num_items,
                         std::int64_t{geometry.items_per_kv_head()} * kHeadsInOrder);
  }
  constexpr std::int32_t num_planning_ctas() const {
    return (geometry.num_items + warps_per_cta - 1) / warps_per_cta;
  }
};

}  // namespace perpend::device
