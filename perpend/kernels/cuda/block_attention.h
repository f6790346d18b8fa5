#pragma once

#include <memory>

#include "perpend/kernels/block_attention.h"

namespace perpend {

// The CUDA half of block_attention.h; the spec's AttentionSpec is supported. No stream: memory of
// the plan's own.
std::shared_ptr<const BlockAttentionTables> cuda_make_block_tables(const BlockAttentionSpec& spec,
                                                                   Device device);
std::unique_ptr<BlockAttentionPlan> cuda_make_block_plan(
    const std::shared_ptr<const BlockAttentionTables>& tables, const Stream* stream);

}  // namespace perpend
