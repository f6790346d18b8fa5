#pragma once

#include "perpend/core/random.h"
#include "perpend/kernels/reference/attention_call.h"

namespace perpend {

// Any call that attention takes: mask, lengths 0 to 300, head groups, head_dim 1 to 256, types,
// strides, ragged, dense or paged batches, score changes; the work of the reference is bounded.
AttentionCase random_attention_case(Random& random);

}  // namespace perpend
