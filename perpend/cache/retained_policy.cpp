#include "perpend/cache/retained_policy.h"

#include <utility>

#include "perpend/mask/retention.h"

namespace perpend {

RetainedPolicy::RetainedPolicy(std::vector<Mask> layer_masks, std::int64_t max_len)
    : layer_masks_(std::move(layer_masks)), max_len_(max_len) {
  for (const Mask& mask : layer_masks_) {
    forgets_.push_back(mask != Mask::all() && mask != Mask::causal());
  }
}

void RetainedPolicy::commit(KvSequence& sequence, std::int64_t num_committed) {
  const std::int64_t page = num_committed / sequence.store().config().page_size;
  if (page == last_page_) return;
  last_page_ = page;
  for (int layer = 0; layer < static_cast<int>(layer_masks_.size()); ++layer) {
    if (forgets_[static_cast<std::size_t>(layer)]) release_unseen(sequence, layer, num_committed);
  }
}

void RetainedPolicy::release_unseen(KvSequence& sequence, int layer,
                                    std::int64_t num_committed) const {
  const std::int64_t page_size = sequence.store().config().page_size;
  const Mask& mask = layer_masks_[static_cast<std::size_t>(layer)];
  const auto table = sequence.page_table(layer);
  for (std::int64_t page = 0; (page + 1) * page_size <= num_committed; ++page) {
    if (table[static_cast<std::size_t>(page)] == KvSequence::kNoPage) continue;
    const Range keys{page * page_size, (page + 1) * page_size};
    if (!may_be_seen(mask, keys, num_committed, max_len_)) sequence.release_page(layer, page);
  }
}

}  // namespace perpend
