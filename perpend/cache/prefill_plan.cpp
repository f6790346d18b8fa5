#include "perpend/cache/prefill_plan.h"

#include <algorithm>

namespace perpend {
namespace {

// The first layer of a block that must run, given which of its keys are wanted: above the last
// checkpoint from which it can go on.
int first_layer(const BlockVisibility& visibility, const std::vector<bool>& is_wanted,
                std::int32_t block, const StoredBlocks& stored) {
  int first_missing = 0;
  while (!is_wanted[static_cast<std::size_t>(first_missing)] ||
         stored.has_keys(first_missing, block)) {
    if (++first_missing == visibility.num_layers()) return first_missing;
  }
  int first = 0;
  for (const int checkpoint : visibility.checkpoints()) {
    if (checkpoint <= first_missing && stored.has_rows(checkpoint, block)) first = checkpoint;
  }
  return first;
}

}  // namespace

std::vector<Range> plan_prefill(BlockVisibility& visibility, std::int32_t num_blocks,
                                const StoredBlocks& stored) {
  const int num_layers = visibility.num_layers();
  const std::int64_t next_q = num_blocks * visibility.block_size();
  std::vector<std::vector<bool>> is_wanted(static_cast<std::size_t>(num_blocks),
                                           std::vector<bool>(static_cast<std::size_t>(num_layers)));
  std::vector<Range> runs(static_cast<std::size_t>(num_blocks));
  for (std::int32_t block = num_blocks - 1; block >= 0; --block) {
    auto& wanted = is_wanted[static_cast<std::size_t>(block)];
    int last = -1;
    for (int layer = 0; layer < num_layers; ++layer) {
      const auto l = static_cast<std::size_t>(layer);
      wanted[l] = wanted[l] || visibility.is_kept(layer, visibility.rows_of(block), next_q);
      if (wanted[l]) last = layer;
    }
    const Range run{first_layer(visibility, wanted, block, stored), last + 1};
    if (run.empty()) continue;
    runs[static_cast<std::size_t>(block)] = run;
    for (auto layer = static_cast<int>(run.begin); layer + 1 < run.end; ++layer) {
      for (const std::int32_t other : visibility.seen(layer, block)) {
        is_wanted[static_cast<std::size_t>(other)][static_cast<std::size_t>(layer)] = true;
      }
    }
  }
  return runs;
}

}  // namespace perpend
