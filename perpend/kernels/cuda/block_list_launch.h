#pragma once

#include <cuda_runtime_api.h>

namespace perpend {

namespace device {
struct BlockListParams;
}

// Makes the steps of all lists, then the items in their order: two launches.
void launch_block_lists(const device::BlockListParams& params, cudaStream_t stream);

}  // namespace perpend
