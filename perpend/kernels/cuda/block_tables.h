#pragma once

#include <cstddef>
#include <optional>

#include "perpend/kernels/block_attention.h"
#include "perpend/kernels/cuda/block_column_image.h"
#include "perpend/kernels/cuda/block_list_image.h"
#include "perpend/kernels/cuda/device_memory.h"
#include "perpend/kernels/cuda/device_schedule.h"

namespace perpend {

// What the plans of a spec share on one GPU.
class CudaBlockTables : public BlockAttentionTables {
 public:
  // On the current device. Throws as make_block_list_image().
  CudaBlockTables(const BlockAttentionSpec& spec, Device device);

  const BlockAttentionSpec& spec() const override { return spec_; }
  Device device() const override { return device_; }
  const AttentionShape& shape() const { return shape_; }

  // Of what a plan writes.
  std::size_t plan_bytes() const { return plan_bytes_; }
  bool has_rows() const { return rows_.geometry.num_items > 0; }
  bool has_columns() const { return columns_.columns.num_items > 0; }
  // Of a plan whose memory begins there; without the lists.
  device::BlockListParams row_params(std::byte* memory) const;
  device::BlockColumnParams column_params(std::byte* memory) const;
  DeviceRows rows(std::byte* memory) const;
  DeviceKeys keys(std::byte* memory) const;

 private:
  // Where arrays begin in a plan's memory.
  struct Places {
    std::size_t counts, buckets, items, steps, sub_tiles;
    std::size_t pieces, next_step, next_box, columns, key_buckets, key_items, key_steps, key_boxes;
  };

  void upload_tables(const BlockListImage& rows, const BlockColumnImage& columns);
  void set_places();

  BlockAttentionSpec spec_;
  AttentionShape shape_;
  Device device_;
  RowForm form_;
  DeviceMemory memory_;
  LaunchCounters counters_;
  device::BlockListParams rows_{};       // without what plans have
  device::BlockColumnParams columns_{};  // likewise; nothing without gradients
  device::Lists row_lists_{};
  device::KeyLists key_lists_{};
  const std::int32_t* q_indptr_ = nullptr;
  Places at_{};
  std::size_t plan_bytes_ = 0;
};

}  // namespace perpend
