#include <algorithm>

#include "perpend/kernels/cuda/block_list_launch.h"
#include "perpend/kernels/cuda/device/block_planning.cuh"
#include "perpend/kernels/cuda/launch_behind.cuh"

namespace perpend {
namespace {

using device::BlockColumnParams;
using device::BlockListParams;

struct Grid {
  std::int32_t ctas;
  std::int32_t threads;
  std::size_t shared_bytes = 0;
};

template <class... Params>
void launch_if_any(const BlockListLaunch& launch, void (*kernel)(Params...), Grid grid,
                   const Params&... params) {
  if (grid.ctas == 0) return;
  launch_behind({launch.stream, launch.on_hopper, "block attention"}, kernel,
                {dim3(static_cast<unsigned>(grid.ctas)), dim3(static_cast<unsigned>(grid.threads)),
                 grid.shared_bytes},
                params...);
}

template <bool kColumns>
void launch_all(const BlockListLaunch& launch, const BlockColumnParams& columns) {
  const BlockListParams& rows = *launch.rows;
  const device::ColumnGeometry& geometry = columns.columns;
  const auto plan_lists = rows.geometry.lists_per_item == 1 ? device::plan_block_lists<1, kColumns>
                                                            : device::plan_block_lists<2, kColumns>;
  const std::int32_t marked = kColumns ? geometry.num_marking_ctas() : 0;
  const std::int32_t words = std::max(rows.warps_per_cta * rows.geometry.words_per_item(),
                                      geometry.lists_per_cta * geometry.words_per_list());
  const std::int32_t ctas = rows.num_planning_ctas() + marked;
  if (ctas > 0) {
    plan_lists<<<static_cast<unsigned>(ctas), static_cast<unsigned>(32 * rows.warps_per_cta),
                 sizeof(std::uint32_t) * static_cast<std::size_t>(words), launch.stream>>>(rows,
                                                                                           columns);
  }
  std::int32_t order_ctas = rows.sections().num_ctas();
  if constexpr (kColumns) {
    const std::int32_t warps = device::kColumnWarps;
    launch_if_any(launch, device::plan_block_columns,
                  {(geometry.num_columns() + warps - 1) / warps, 32 * warps}, columns);
    order_ctas += columns.sections().num_ctas();
  }
  launch_if_any(launch, device::order_block_items<kColumns>,
                {order_ctas, device::kOrderThreads, sizeof(device::ItemOrder::Shared)}, rows,
                columns);
}

}  // namespace

void launch_block_lists(const BlockListLaunch& launch) {
  if (launch.columns == nullptr) {
    launch_all<false>(launch, {});
  } else {
    launch_all<true>(launch, *launch.columns);
  }
}

}  // namespace perpend
