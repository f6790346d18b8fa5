#pragma once

#include <cstdint>
#include <vector>

#include "perpend/core/range.h"
#include "perpend/mask/bound_mask.h"
#include "perpend/mask/mask.h"

namespace perpend {

// Which keys a cache must keep: those that some later query may see. Derived from the mask alone.
class Retention {
 public:
  // For heads [0, num_q_heads) in groups of one key/value head each; sequences never grow beyond
  // `max_len`. Throws InvalidArgument for names that are not bound and heads without a mask.
  Retention(const Mask& mask, std::int64_t max_len, int num_q_heads = 1, int num_kv_heads = 1);

  // Whether some query of the heads, at position next_q or later, may see a key of `keys`. Never
  // wrongly false. Wrongly true only for masks that break into many small pieces (see the limit in
  // retention.cpp); exact for those of the papers.
  bool may_be_seen(Range keys, std::int64_t next_q) const;
  bool may_be_seen(int kv_head, Range keys, std::int64_t next_q) const;

  // Keys that a cache with pages of `page_size` keys holds after `num_tokens` tokens when it frees
  // every whole page that can not be seen again: whole pages, ascending, neighbours joined; the
  // last page may not be full. page_size 1: the keys that may be seen.
  std::vector<Range> kept_keys(std::int64_t num_tokens, std::int64_t page_size) const;
  // How many pages that is.
  std::int64_t retained_pages(std::int64_t num_tokens, std::int64_t page_size) const;
  // Their bytes; `bytes_per_key` counts K and V of all heads.
  std::int64_t retained_bytes(std::int64_t num_tokens, std::int64_t page_size,
                              std::int64_t bytes_per_key) const {
    return retained_pages(num_tokens, page_size) * page_size * bytes_per_key;
  }

 private:
  std::vector<std::vector<BoundMask>> heads_;  // distinct ones of each key/value head
  std::vector<BoundMask> distinct_;            // of all heads
  std::int64_t max_len_;
};

}  // namespace perpend
