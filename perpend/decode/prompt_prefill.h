#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "perpend/cache/block_keys.h"
#include "perpend/cache/block_visibility.h"
#include "perpend/cache/cache_policy.h"
#include "perpend/cache/prefix_store.h"
#include "perpend/models/language_model.h"

namespace perpend {

// Runs the blocks of a prompt for their keys alone, block by block, and of each only the layers
// that something later depends on (cache/prefill_plan.h). With a PrefixStore, what was run before
// and depends on the same tokens is not run again. Neither changes a bit of what comes out: a block
// has always the same rows and sees the same keys.
class PromptPrefill {
 public:
  struct Parts {
    const LanguageModel& model;
    Context& context;
    KvSequence& sequence;
    CachePolicy& policy;
    std::span<const Mask> layer_masks;
    PrefixStore* store = nullptr;  // none: nothing is kept
    SipHash hash = {0, 0};         // of the keys in `store`
  };

  // Borrows all parts. `block_size` must be a multiple of the page size.
  PromptPrefill(const Parts& parts, std::int64_t block_size);

  // Runs the whole blocks of `tokens` into the empty sequence, but for the last that leaves none
  // pending. `progress` hears how many tokens are in the cache after each block; false ends the
  // work, with an empty sequence where what it had then could not be gone on from. Whether it came
  // to its end.
  bool run(std::span<const std::int32_t> tokens,
           const std::function<bool(std::int64_t)>& progress = {});

  // Of the last run: tokens of blocks that did not run at all because they were stored, and how
  // many times a token ran a layer.
  std::int64_t reused_tokens() const { return reused_tokens_; }
  std::int64_t layer_tokens() const { return layer_tokens_; }

 private:
  std::vector<Range> plan(std::int32_t num_blocks);
  const PrefixStore::Entry* stored(int layer, std::int32_t block) const;
  void run_block(std::span<const std::int32_t> tokens, std::int32_t block, Range layers);
  bool share_pages(std::int32_t block, Range layers);
  void keep(std::int32_t block, Range layers, std::span<const RowsAtLayer> rows);
  bool can_go_on() const;

  Parts parts_;
  std::int64_t page_size_;
  BlockVisibility visibility_;
  std::optional<BlockKeys> keys_;
  std::int64_t reused_tokens_ = 0;
  std::int64_t layer_tokens_ = 0;
};

}  // namespace perpend
