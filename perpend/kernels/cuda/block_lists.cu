#include "perpend/core/range.h"
#include "perpend/kernels/cuda/block_list_launch.h"
#include "perpend/kernels/cuda/device/block_lists.cuh"

namespace perpend {

void launch_block_lists(const device::BlockListParams& params, cudaStream_t stream) {
  const device::BlockGeometry& geometry = params.geometry;
  const int warps = params.warps_per_cta;
  const auto planning_ctas = static_cast<unsigned>(ceil_div(geometry.num_items, warps));
  const std::size_t planning_bytes = sizeof(std::uint32_t) * static_cast<std::size_t>(warps) *
                                     static_cast<std::size_t>(geometry.words_per_item());
  const auto plan_lists =
      geometry.lists_per_item == 1 ? device::plan_block_lists<1> : device::plan_block_lists<2>;
  plan_lists<<<planning_ctas, static_cast<unsigned>(32 * warps), planning_bytes, stream>>>(params);
  const auto order_ctas = static_cast<unsigned>(geometry.num_order_ctas());
  device::order_block_items<<<order_ctas, device::kOrderThreads, sizeof(device::ItemOrder::Shared),
                              stream>>>(params);
}

}  // namespace perpend
