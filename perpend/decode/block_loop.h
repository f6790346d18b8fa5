#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "perpend/decode/prompt_prefill.h"
#include "perpend/decode/sequence_steps.h"
#include "perpend/models/pass_runner.h"

namespace perpend {

// The one loop behind every kind of generation (docs/architecture.md):
//   for each block: let the denoiser run steps until it is finished, then commit it to the cache.
// Runs one sequence; the engine (engine.h) runs many by the same steps.
class BlockLoop {
 public:
  // Borrows all arguments, which are as in SequenceSteps. With a `prompt_prefill` of the same parts
  // and chunks, that runs the first prompt.
  BlockLoop(const LanguageModel& model, Context& context, KvSequence& sequence, CachePolicy& policy,
            std::span<const Mask> layer_masks, std::int64_t prefill_chunk = 512,
            PromptPrefill* prompt_prefill = nullptr);

  // Final tokens so far; the first sequence().length() of them are in the cache.
  std::span<const std::int32_t> tokens() const { return steps_.tokens(); }

  // Adds final tokens (a prompt) without running them. Throws InvalidArgument when they do not fit
  // the context.
  void push(std::span<const std::int32_t> tokens) { steps_.push(tokens); }

  // Runs all pending tokens but the last chunk, for their keys alone. `progress` hears how many
  // tokens are in the cache after each chunk; false ends the work there, with the rest pending.
  // Whether it came to its end.
  bool prefill(const std::function<bool(std::int64_t)>& progress = {});

  // Runs one block; what it returns is final and already part of tokens().
  std::span<const Sample> next_block(Denoiser& denoiser);

 private:
  void run(const Step& step, Denoiser& denoiser);
  // Throws OutOfMemory when there is no room.
  KvRows place(const Step& step);

  Context& context_;
  PassRunner runner_;
  SequenceSteps steps_;
  PromptPrefill* prompt_prefill_;
};

}  // namespace perpend
