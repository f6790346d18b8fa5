#include "perpend/mask/retention.h"

#include "perpend/mask/bound_mask.h"

namespace perpend {

bool may_be_seen(const Mask& mask, Range keys, std::int64_t next_q, std::int64_t max_len) {
  if (keys.empty() || next_q >= max_len) return false;
  return BoundMask(mask).answer({next_q, max_len}, keys) != Answer::kNone;
}

std::int64_t retained_bytes(const Mask& mask, std::int64_t num_tokens, std::int64_t max_len,
                            std::int64_t page_size, std::int64_t bytes_per_key) {
  std::int64_t pages = 0;
  for (std::int64_t begin = 0; begin < num_tokens; begin += page_size) {
    const bool whole = begin + page_size <= num_tokens;
    const bool seen = may_be_seen(mask, {begin, begin + page_size}, num_tokens, max_len);
    pages += !whole || seen ? 1 : 0;
  }
  return pages * page_size * bytes_per_key;
}

}  // namespace perpend
