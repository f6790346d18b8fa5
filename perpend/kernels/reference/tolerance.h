#pragma once

#include <cstdint>
#include <string_view>

#include "perpend/core/dtype.h"

namespace perpend {

// What attention writes.
enum class AttentionOutput : std::uint8_t { kO, kLse, kDq, kDk, kDv };

std::string_view name_of(AttentionOutput output);

// The one table of what a kernel may be off by. `dtype`: the coarsest of its operands.
//   o, dq, dk, dv   norm(found - expected) / norm(expected) of each row of head_dim values
//   lse             |found - expected| / (1 + |expected|)
// `score_size`: of the scores behind a row (RowError). A probability is known as well as its score
// is in absolute terms, so that what is allowed grows with it; lse is measured on it already.
// `head_dim`: how many products a score sums.
double attention_tolerance(DType dtype, AttentionOutput output, double score_size = 0,
                           std::int64_t head_dim = 0);

}  // namespace perpend
