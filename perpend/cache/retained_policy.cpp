#include "perpend/cache/retained_policy.h"

namespace perpend {

RetainedPolicy::RetainedPolicy(const std::vector<Mask>& layer_masks, std::int64_t max_len,
                               int num_q_heads, int num_kv_heads) {
  for (const Mask& mask : layer_masks) {
    retentions_.emplace_back(mask, max_len, num_q_heads, num_kv_heads);
    forgets_.push_back(mask != Mask::all() && mask != Mask::causal());
  }
}

void RetainedPolicy::commit(KvSequence& sequence, std::int64_t num_committed) {
  const std::int64_t page = num_committed / sequence.store().config().page_size;
  if (page == last_page_) return;
  last_page_ = page;
  for (int layer = 0; layer < static_cast<int>(retentions_.size()); ++layer) {
    if (forgets_[static_cast<std::size_t>(layer)]) release_unseen(sequence, layer, num_committed);
  }
}

void RetainedPolicy::release_unseen(KvSequence& sequence, int layer,
                                    std::int64_t num_committed) const {
  const std::int64_t page_size = sequence.store().config().page_size;
  const Retention& retention = retentions_[static_cast<std::size_t>(layer)];
  const auto table = sequence.page_table(layer);
  for (std::int64_t page = 0; (page + 1) * page_size <= num_committed; ++page) {
    if (table[static_cast<std::size_t>(page)] == KvSequence::kNoPage) continue;
    const Range keys{page * page_size, (page + 1) * page_size};
    if (!retention.may_be_seen(keys, num_committed)) sequence.release_page(layer, page);
  }
}

}  // namespace perpend
