#pragma once

#include <cstdint>

#include "perpend/mask/mask.h"

namespace perpend {

// What a mask shows of `num_tokens` x `num_tokens` pairs cut into square blocks: sums over all
// query heads.
struct BlockCensus {
  std::int64_t live_blocks = 0;  // with at least one visible pair
  std::int64_t live_pairs = 0;
};

// Exact; work goes with the live blocks' borders, not with all pairs. Throws InvalidArgument for
// names that are not bound and heads without a mask.
BlockCensus count_blocks(const Mask& mask, std::int64_t num_tokens, std::int64_t block_size,
                         int num_q_heads = 1, int num_kv_heads = 1);

}  // namespace perpend
