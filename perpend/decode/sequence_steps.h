#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "perpend/cache/cache_policy.h"
#include "perpend/decode/denoiser.h"

namespace perpend {

// One sequence of the block loop, taken apart: what it wants to run next, and what becomes of it
// once that has run, so that steps of many sequences may run in one pass. Holds its final tokens
// and says which of their keys stay.
class SequenceSteps {
 public:
  // Borrows `sequence`, `policy` and the masks, one a layer. `context_length` bounds the tokens;
  // prompts run in chunks of `prefill_chunk` rows, so that pages which no later token sees are
  // freed on the way.
  SequenceSteps(KvSequence& sequence, CachePolicy& policy, std::span<const Mask> layer_masks,
                std::int64_t context_length, std::int64_t prefill_chunk);

  // Final tokens so far; the first sequence().length() of them are in the cache between blocks.
  std::span<const std::int32_t> tokens() const { return tokens_; }
  const KvSequence& sequence() const { return sequence_; }
  KvSequence& sequence() { return sequence_; }

  // Adds final tokens (a prompt). Throws InvalidArgument when they do not fit the context.
  void push(std::span<const std::int32_t> tokens);

  // Between blocks: whether more tokens are pending than run together, so that a chunk of them
  // should run for its keys alone.
  bool has_chunk() const { return num_pending() > prefill_chunk_; }
  Step next_chunk();
  void finish_chunk();

  // A block: open() once, then next_step() and, when the denoiser has taken its rows, finish_step()
  // until that says that the block is finished; its tokens are then part of tokens().
  void open(Denoiser& denoiser);
  static Step next_step(Denoiser& denoiser) { return denoiser.next_step(); }
  bool finish_step(Denoiser& denoiser);

  // The rows of a step, or chunk, in the sequence, with room made for them and the keys that they
  // see. Nothing, and no page taken, when the store has none left.
  std::optional<KvRows> place(const Step& step);
  // Of each layer, for the rows of a step.
  std::span<const Mask> masks_of(const Step& step) const {
    return step.layer_masks.empty() ? layer_masks_ : step.layer_masks;
  }

 private:
  std::int64_t num_pending() const {
    return static_cast<std::int64_t>(tokens_.size()) - sequence_.length();
  }
  // Ends what is final at `num_committed` tokens; all keys behind them are forgotten.
  void commit(std::int64_t num_committed);

  KvSequence& sequence_;
  CachePolicy& policy_;
  std::span<const Mask> layer_masks_;
  std::int64_t context_length_;
  std::int64_t prefill_chunk_;
  std::vector<std::int32_t> tokens_;
  // Behind them the sequence may hold keys of an open block, which live as long as it does.
  std::int64_t num_committed_ = 0;
};

}  // namespace perpend
