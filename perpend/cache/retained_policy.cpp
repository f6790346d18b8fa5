#include "perpend/cache/retained_policy.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "perpend/core/range.h"

namespace perpend {
namespace {

bool lets_nothing_go(const Mask& mask) { return mask == Mask::all() || mask == Mask::causal(); }

// Of one layer. What is kept when a stretch of steps begins only shrinks inside it; beside it are
// the tokens of the stretch and those of one step that begins at its end.
std::int64_t enough_pages_for(const Mask& mask, const RetainedGrowth& growth) {
  const std::int64_t all = ceil_div(growth.max_len, growth.page_size) + 1;
  if (lets_nothing_go(mask)) return all;
  const Retention retention(mask, growth.max_len, growth.num_q_heads, growth.num_kv_heads);
  const std::int64_t stretch = round_up(growth.step, growth.page_size);
  std::int64_t kept = 0;
  for (std::int64_t begin = 0; begin < growth.max_len; begin += stretch) {
    kept = std::max(kept, retention.retained_pages(begin, growth.page_size));
  }
  return std::min(all, kept + 2 * stretch / growth.page_size + 1);
}

}  // namespace

RetainedPolicy::RetainedPolicy(const std::vector<Mask>& layer_masks, std::int64_t max_len,
                               int num_q_heads, int num_kv_heads) {
  for (const Mask& mask : layer_masks) {
    retentions_.emplace_back(mask, max_len, num_q_heads, num_kv_heads);
    forgets_.push_back(!lets_nothing_go(mask));
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

std::int64_t enough_pages(std::span<const Mask> layer_masks, const RetainedGrowth& growth) {
  std::vector<std::pair<Mask, std::int64_t>> known;
  std::int64_t total = 0;
  for (const Mask& mask : layer_masks) {
    auto found = std::ranges::find(known, mask, &std::pair<Mask, std::int64_t>::first);
    if (found == known.end()) {
      known.emplace_back(mask, enough_pages_for(mask, growth));
      found = std::prev(known.end());
    }
    total += found->second;
  }
  return total;
}

}  // namespace perpend
