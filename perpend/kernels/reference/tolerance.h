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
double attention_tolerance(DType dtype, AttentionOutput output);

}  // namespace perpend
