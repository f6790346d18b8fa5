#pragma once

#include <cstdint>

#include "perpend/core/range.h"
#include "perpend/mask/mask.h"

namespace perpend {

// Whether some query at position next_q or later (up to the end of the context, `max_len`) may see
// a key of `keys`. A cache may drop keys for which this is false, and never others: the answer may
// be cautiously true, never wrongly false.
bool may_be_seen(const Mask& mask, Range keys, std::int64_t next_q, std::int64_t max_len);

// Bytes of K and V that a cache with pages of `page_size` keys holds after `num_tokens` tokens,
// when it frees every page that can not be seen again; `bytes_per_key` counts K and V of all heads.
std::int64_t retained_bytes(const Mask& mask, std::int64_t num_tokens, std::int64_t max_len,
                            std::int64_t page_size, std::int64_t bytes_per_key);

}  // namespace perpend
