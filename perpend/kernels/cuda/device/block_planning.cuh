#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/block_columns.cuh"
#include "perpend/kernels/cuda/device/block_lists.cuh"
#include "perpend/kernels/cuda/device/item_order.cuh"
#include "perpend/kernels/cuda/device/launch_order.cuh"

// The launches that make a plan of lists of blocks: the steps of rows, a warp for each item, beside
// the table for columns; the steps of columns, a warp each; the order of both.

namespace perpend::device {

constexpr std::int32_t kColumnWarps = 4;  // of a CTA that makes columns

// Shared memory: words_per_item() words for each warp, or those of ColumnMarker.
template <int kLists, bool kColumns>
static __global__ void plan_block_lists(const __grid_constant__ BlockListParams params,
                                        const __grid_constant__ BlockColumnParams columns) {
  // NOLINTNEXTLINE(readability-redundant-declaration): an emulated GPU has declared it
  extern __shared__ __align__(16) std::uint16_t shared_values[];
  let_next_launch_start();
  auto* words = reinterpret_cast<std::uint32_t*>(shared_values);
  auto cta = static_cast<std::int32_t>(blockIdx.x);
  if constexpr (kColumns) {
    if (cta == 0 && threadIdx.x == 0) *columns.next_step = *columns.next_box = 0;
    if (cta < columns.columns.num_marking_ctas()) {
      ColumnMarker(columns, cta, params.warps_per_cta, words).run();
      return;
    }
    cta -= columns.columns.num_marking_ctas();
  }
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const std::int32_t index = cta * params.warps_per_cta + warp;
  if (index >= params.geometry.num_items) return;
  BlockListPlanner<kLists>(params, index, words + warp * params.geometry.words_per_item()).run();
}

static __global__ void __launch_bounds__(32 * kColumnWarps, 4)
    plan_block_columns(const __grid_constant__ BlockColumnParams params) {
  let_next_launch_start();
  wait_for_launch_before();
  const auto column = static_cast<std::int32_t>(blockIdx.x) * kColumnWarps +
                      static_cast<std::int32_t>(threadIdx.x) / 32;
  if (column < params.columns.num_columns()) ColumnPlanner(params, column).run();
}

// Row items alone unless kColumns.
template <bool kColumns>
static __global__ void __launch_bounds__(kOrderThreads)
    order_block_items(const __grid_constant__ BlockListParams params,
                      const __grid_constant__ BlockColumnParams columns) {
  // NOLINTNEXTLINE(readability-redundant-declaration): an emulated GPU has declared it
  extern __shared__ __align__(16) std::uint16_t shared_values[];
  wait_for_launch_before();
  auto& shared = *reinterpret_cast<ItemOrder::Shared*>(shared_values);
  const auto cta = static_cast<std::int32_t>(blockIdx.x);
  const std::int32_t row_ctas = params.sections().num_ctas();
  if constexpr (kColumns) {
    if (cta >= row_ctas) {
      ItemOrder(columns.sections(), cta - row_ctas, columns.buckets, shared)
          .run([&](std::int32_t index, std::int32_t to) { write_column_item(columns, index, to); });
      return;
    }
  }
  ItemOrder(params.sections(), cta, params.buckets, shared)
      .run([&](std::int32_t index, std::int32_t to) { write_block_item(params, index, to); });
}

}  // namespace perpend::device
