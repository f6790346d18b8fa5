#pragma once

#include <memory>

#include "perpend/kernels/block_attention.h"

namespace perpend {

// The CUDA half of block_attention.h; the spec's AttentionSpec is supported.
std::unique_ptr<BlockAttentionPlan> cuda_make_block_plan(const BlockAttentionSpec& spec,
                                                         Device device);

}  // namespace perpend
