#pragma once

#include <cstdint>

#include "perpend/mask/mask.h"

namespace perpend {

// Checks that what labels and tile maps of `mask` are given for fits a sequence: queries at
// [q_offset, q_offset + q_len), keys at [0, kv_len). A whole sequence (q_offset 0, q_len = kv_len)
// must be covered exactly by segments(...), arrays, grids and tile maps; a part of one (a chunk, a
// decode step) must lie inside. Labels must lie in the table they choose from. Throws
// InvalidArgument that names the label and both lengths.
void check_covers(const Mask& mask, std::int64_t q_len, std::int64_t kv_len, std::int64_t q_offset);

}  // namespace perpend
