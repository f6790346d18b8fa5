#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "perpend/cache/cache_policy.h"
#include "perpend/decode/denoiser.h"
#include "perpend/decode/prompt_prefill.h"
#include "perpend/models/pass_runner.h"

namespace perpend {

// The one loop behind every kind of generation (docs/architecture.md):
//   for each block: let the denoiser run steps until it is finished, then commit it to the cache.
// Holds one sequence: its tokens, their keys, the masks and the cache policy.
class BlockLoop {
 public:
  // Borrows all arguments. `layer_masks` has one mask a layer; prompts run in chunks of
  // `prefill_chunk` rows, so that pages which no later token sees are freed on the way. With a
  // `prompt_prefill` of the same parts and chunks, that runs the first prompt.
  BlockLoop(const LanguageModel& model, Context& context, KvSequence& sequence, CachePolicy& policy,
            std::span<const Mask> layer_masks, std::int64_t prefill_chunk = 512,
            PromptPrefill* prompt_prefill = nullptr);

  // Final tokens so far; the first sequence().length() of them are in the cache.
  std::span<const std::int32_t> tokens() const { return tokens_; }

  // Adds final tokens (a prompt) without running them. Throws InvalidArgument when they do not fit
  // the context.
  void push(std::span<const std::int32_t> tokens);

  // Runs all pending tokens but the last chunk, for their keys alone. `progress` hears how many
  // tokens are in the cache after each chunk; false ends the work there, with the rest pending.
  // Whether it came to its end.
  bool prefill(const std::function<bool(std::int64_t)>& progress = {});

  // Runs one block; what it returns is final and already part of tokens().
  std::span<const Sample> next_block(Denoiser& denoiser);

 private:
  std::int64_t num_pending() const {
    return static_cast<std::int64_t>(tokens_.size()) - sequence_.length();
  }
  // Whether only the largest logits of a step have to leave the device.
  bool wants_summaries(const Denoiser& denoiser) const {
    return context_.device.type != DeviceType::kCpu && denoiser.needs_only_summaries();
  }
  StepResult step(Denoiser& denoiser);
  // Makes room for the rows and keys of a step.
  KvRows place(const Step& step);
  // Ends what is final at `num_committed` tokens; all keys behind them are forgotten.
  void commit(std::int64_t num_committed);

  const LanguageModel& model_;
  Context& context_;
  PassRunner runner_;
  KvSequence& sequence_;
  CachePolicy& policy_;
  std::span<const Mask> layer_masks_;
  std::int64_t prefill_chunk_;
  PromptPrefill* prompt_prefill_;
  std::vector<std::int32_t> tokens_;
  // Behind them the sequence may hold keys of an open block, which live as long as it does.
  std::int64_t num_committed_ = 0;
};

}  // namespace perpend
