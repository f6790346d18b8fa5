#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <torch/types.h>

#include "perpend/core/error.h"
#include "perpend/decode/sampler.h"

namespace perpend {

// What a block asks the model to run next. The rows stand right after the committed tokens.
struct Step {
  std::span<const std::int32_t> tokens;
  std::span<const std::int32_t> logit_rows;  // rows of `tokens` whose logits it wants
};

// What a block made of the logits.
struct StepResult {
  std::int64_t num_committed = 0;  // leading rows of the step whose keys are final and stay
  bool finished = false;           // no token of the block will change any more
};

// How one block of tokens comes to be: autoregression is a block of one token and one step, block
// diffusion a block of masked tokens and several. The loop (block_loop.h) owns cache, model and
// stop rules; a denoiser owns the block's life from open over provisional to finished.
class Denoiser {
 public:
  virtual ~Denoiser() = default;

  // Opens the next block. `tokens` are all final tokens so far; the last `num_pending` of them have
  // no keys in the cache yet and must lead the block's first committed rows.
  virtual void open(std::span<const std::int32_t> tokens, std::int64_t num_pending) = 0;
  virtual Step next_step() = 0;
  // logits [logit_rows, vocab_size] f32 of the last step, on the host; may be changed.
  virtual StepResult update(const torch::Tensor& logits, const Context& context) = 0;
  // Whether a summary of each wanted row is all that it needs of the step, which spares a GPU to
  // send logits; the summaries then come instead of them.
  virtual bool needs_only_summaries() const { return false; }
  virtual StepResult update(std::span<const VocabularySummary> /*rows*/) {
    bug("Denoiser: summaries that nobody asked for");
  }
  // The finished block.
  virtual std::span<const Sample> block() const = 0;
};

}  // namespace perpend
