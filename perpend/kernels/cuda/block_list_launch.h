#pragma once

#include <cuda_runtime_api.h>

namespace perpend {

namespace device {
struct BlockListParams;
struct BlockColumnParams;
}  // namespace device

struct BlockListLaunch {
  const device::BlockListParams* rows;
  const device::BlockColumnParams* columns;  // null: not wanted
  bool on_hopper;                            // launches may be made ready early
  cudaStream_t stream;
};

// Makes the steps of all lists, then the items in their order: two launches, three with columns.
void launch_block_lists(const BlockListLaunch& launch);

}  // namespace perpend
