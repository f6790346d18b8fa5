#pragma once

#include <vector>

#include <cuda.h>

#include "perpend/kernels/cuda/block_column_image.h"
#include "perpend/kernels/cuda/block_list_image.h"
#include "perpend/kernels/cuda/column_image.h"
#include "perpend/kernels/cuda/device/block_planning.cuh"
#include "perpend/kernels/cuda/schedule_image.h"
#include "tests/kernels/cuda/block_case.h"
#include "tests/kernels/cuda/emulated/emulated_operands.h"

namespace perpend {

// A plan from lists of blocks as the kernels make it, run by an emulated GPU.
class EmulatedPlan {
 public:
  EmulatedPlan(BlockCase& c, std::uint64_t seed) : image_(make_block_list_image(c.spec)) {
    const device::BlockGeometry& g = image_.geometry;
    const auto items = static_cast<std::size_t>(g.num_items);
    const device::Step no_step{-1, ~0U};
    counts_.assign(items, {-1, -1});
    buckets_.assign(items + 3, 77);
    rows_.items.assign(items, device::Item{});
    rows_.steps.assign(items * static_cast<std::size_t>(g.steps_per_item), no_step);
    rows_.sub_tiles.assign(items * static_cast<std::size_t>(g.units_per_item), -1);
    rows_.bitmaps = image_.bitmaps;
    rows_.keys = device::keys_of_step(static_cast<int>(c.spec.attention.head_dim));
    rows_.box_rows = image_.box_rows;
    rows_.skips_parts = image_.skips_parts;
    if (c.spec.gradients) prepare_columns(c.spec);
    update(c, seed);
  }

  // Again, in the same memory.
  void update(BlockCase& c, std::uint64_t seed) {
    c.spec.gradients ? update<true>(c, seed) : update<false>(c, seed);
  }

  const device::BlockGeometry& geometry() const { return image_.geometry; }
  const device::ItemSections& sections() const { return sections_; }
  const ScheduleImage& rows() const { return rows_; }
  const ColumnImage& columns() const { return columns_; }
  device::Lists lists() const { return lists_of(rows_, image_.geometry.group_size); }

 private:
  void prepare_columns(const BlockAttentionSpec& spec) {
    column_image_ = make_block_column_image(spec);
    const device::ColumnGeometry& g = column_image_.geometry;
    const auto size = [](std::int64_t count) { return static_cast<std::size_t>(count); };
    pieces_.assign(size(std::int64_t{g.num_list_rows} * g.num_tiles * g.q_pitch), 0xff);
    lists_of_columns_.assign(size(g.num_columns()), {-1, -1, -1});
    key_buckets_.assign(size(g.num_items + 3), 77);
    columns_.items.assign(size(g.num_items), device::KeyItem{});
    columns_.steps.assign(size(g.num_steps), {{-1, ~0U}, -1, -1});
    columns_.bitmaps = column_image_.bitmaps;
    columns_.q_indptr = column_image_.q_indptr;
    columns_.sub_tiles.assign(size(g.num_boxes), -1);
    columns_.box_rows = device::kGradientQueries / g.boxes_per_step;
  }

  template <bool kColumns>
  void update(BlockCase& c, std::uint64_t seed) {
    const device::BlockGeometry& g = image_.geometry;
    const std::int64_t lists = c.spec.num_list_heads * c.spec.num_q_blocks();
    const std::int64_t k = c.spec.max_blocks;
    const device::BlockIndices indices{c.block_indices.data(),
                                       c.num_blocks.data(),
                                       {lists * k, c.spec.num_q_blocks() * k, k},
                                       {lists, c.spec.num_q_blocks(), 1}};
    const device::BlockListParams rows{g,
                                       indices,
                                       image_.flags.data(),
                                       image_.cut_flags.data(),
                                       counts_.data(),
                                       buckets_.data(),
                                       rows_.steps.data(),
                                       rows_.sub_tiles.data(),
                                       rows_.items.data(),
                                       planning_warps(g)};
    const device::BlockColumnParams columns{g,
                                            column_image_.geometry,
                                            indices,
                                            column_image_.flags.data(),
                                            pieces_.data(),
                                            &next_step_,
                                            &next_box_,
                                            columns_.steps.data(),
                                            columns_.sub_tiles.data(),
                                            lists_of_columns_.data(),
                                            key_buckets_.data(),
                                            columns_.items.data()};
    sections_ = rows.sections();
    const int marking = kColumns ? columns.columns.num_marking_ctas() : 0;
    device::run_emulated(rows.num_planning_ctas() + marking, 32 * rows.warps_per_cta, seed, [&] {
      g.lists_per_item == 1 ? device::plan_block_lists<1, kColumns>(rows, columns)
                            : device::plan_block_lists<2, kColumns>(rows, columns);
    });
    const int warps = device::kColumnWarps;
    if (kColumns) {
      device::run_emulated((columns.columns.num_columns() + warps - 1) / warps, 32 * warps, seed,
                           [&] { device::plan_block_columns(columns); });
    }
    const int order_ctas =
        rows.sections().num_ctas() + (kColumns ? columns.sections().num_ctas() : 0);
    device::run_emulated(order_ctas, device::kOrderThreads, seed,
                         [&] { device::order_block_items<kColumns>(rows, columns); });
  }

  BlockListImage image_;
  BlockColumnImage column_image_;
  device::ItemSections sections_{};
  std::vector<device::StepCounts> counts_;
  std::vector<std::uint8_t> buckets_;
  ScheduleImage rows_;
  std::vector<std::uint8_t> pieces_;
  std::int32_t next_step_ = -1;
  std::int32_t next_box_ = -1;
  std::vector<device::ColumnList> lists_of_columns_;
  std::vector<std::uint8_t> key_buckets_;
  ColumnImage columns_;
};

}  // namespace perpend
