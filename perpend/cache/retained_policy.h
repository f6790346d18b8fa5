#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "perpend/cache/cache_policy.h"
#include "perpend/mask/mask.h"
#include "perpend/mask/retention.h"

namespace perpend {

// Frees, layer by layer, every whole page that the layer's mask can never see again
// (mask/retention.h). Rings and sinks need no code of their own: they are what such masks leave.
class RetainedPolicy final : public CachePolicy {
 public:
  // One mask for each layer; `max_len` is the longest the sequence may become. A page holds the
  // keys of all heads, so it stays while any head may see one of them. Throws InvalidArgument for
  // masks with names that are not bound.
  RetainedPolicy(const std::vector<Mask>& layer_masks, std::int64_t max_len, int num_q_heads = 1,
                 int num_kv_heads = 1);

  void commit(KvSequence& sequence, std::int64_t num_committed) override;

 private:
  void release_unseen(KvSequence& sequence, int layer, std::int64_t num_committed) const;

  std::vector<Retention> retentions_;  // one for each layer
  std::vector<bool> forgets_;  // false where nothing can ever be freed, so that nothing is asked
  std::int64_t last_page_ = -1;
};

// How a sequence under a RetainedPolicy grows.
struct RetainedGrowth {
  std::int64_t max_len = 0;
  std::int64_t step = 1;  // tokens between two commits, at most
  std::int64_t page_size = 64;
  int num_q_heads = 1;
  int num_kv_heads = 1;
};

// Pages that are enough for it, all layers together. Throws as RetainedPolicy does.
std::int64_t enough_pages(std::span<const Mask> layer_masks, const RetainedGrowth& growth);

}  // namespace perpend
