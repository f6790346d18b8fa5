#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <torch/types.h>

#include "perpend/core/error.h"
#include "perpend/decode/sampler.h"
#include "perpend/models/pass_runner.h"

namespace perpend {

// What a block asks the model to run next.
struct Step {
  std::span<const std::int32_t> tokens;      // of its rows, one after another
  std::span<const std::int32_t> logit_rows;  // rows of `tokens` whose logits it wants
  std::int64_t offset = 0;                   // of the first row behind the committed tokens
  std::int64_t num_keys = 0;  // of the sequence that the rows may see; 0: up to the last of them
  std::span<const Mask> layer_masks = {};            // empty: those of the loop
  std::int32_t banned_token = PassRunner::kNoToken;  // that must not come out
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
  // Logits [rows, vocab_size] f32 of the wanted rows of the last step from `first` on, on the host;
  // may be changed. Called until it has all of them.
  virtual void take(std::int64_t first, const torch::Tensor& logits, const Context& context) = 0;
  // Whether a summary of each wanted row is all that it needs of the step, which spares a GPU to
  // send logits; the summaries then come instead of them.
  virtual bool needs_only_summaries() const { return false; }
  virtual void take(std::int64_t /*first*/, std::span<const VocabularySummary> /*rows*/) {
    bug("Denoiser: summaries that nobody asked for");
  }
  // After all rows.
  virtual StepResult update() = 0;
  // The finished block.
  virtual std::span<const Sample> block() const = 0;
  // Passes that worked for the answer so far: all but those over the prompt alone that gave no
  // token.
  virtual std::int64_t num_forwards() const = 0;
  virtual std::int64_t num_rows() const = 0;  // that these computed
};

// Whether only the largest logits of its steps have to leave the device.
inline bool takes_summaries(const Denoiser& denoiser, const Context& context) {
  return context.device.type != DeviceType::kCpu && denoiser.needs_only_summaries();
}

}  // namespace perpend
