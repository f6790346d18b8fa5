#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "perpend/decode/denoiser.h"
#include "perpend/decode/diffusion_options.h"

namespace perpend {

// Fills masked tokens, several a step, block after block: Fast-dLLM v2 (section 2.5: blocks count
// from position 0), NBDiff (2.4: from the end of the prompt) and full attention (LLaDA, Dream: a
// canvas of prompt and all tokens to come). A block is, for models whose finished tokens keep their
// keys, first a pass over what is final and has no keys yet, whose last row gives the first token
// of the block where predictions are shifted; then steps that fill the sub-blocks from left to
// right. It ends when nothing that is masked can matter any more: at its end, behind the last token
// of the answer or a stop token. So the tokens do not depend on how long the answer may become,
// except under full attention, where the canvas is as long.
class BlockDiffusion final : public Denoiser {
 public:
  struct Answer {
    std::int64_t prompt_tokens = 0;  // at least one
    std::int64_t max_tokens = 0;
    std::int64_t context_length = 0;  // which no canvas passes
    int num_layers = 0;
    int num_top_logprobs = 0;
    std::function<bool(std::int32_t)> is_stop;  // null: no token ends it
  };

  // `on_step` of the options hears of each step. The loop's masks must be context_mask() of the
  // setting. Throws InvalidArgument for options of the sampler out of range.
  BlockDiffusion(const DiffusionSetting& setting, const SamplerOptions& sampler, Answer answer,
                 std::function<void(const CanvasStep&)> on_step = {});

  void open(std::span<const std::int32_t> tokens, std::int64_t num_pending) override;
  Step next_step() override;
  void take(std::int64_t first, const torch::Tensor& logits, const Context& context) override;
  bool needs_only_summaries() const override;
  void take(std::int64_t first, std::span<const VocabularySummary> rows) override;
  StepResult update() override;
  std::span<const Sample> block() const override;

  std::int64_t num_forwards() const override { return num_forwards_; }
  std::int64_t num_rows() const override { return num_rows_; }

 private:
  std::int32_t mask_token() const { return setting_.model.mask_token_id; }
  std::int64_t shift() const { return setting_.model.shifted ? 1 : 0; }
  bool is_masked(std::int64_t position) const {
    return masked_[static_cast<std::size_t>(position)];
  }
  bool is_stop(std::int64_t position) const {
    return answer_.is_stop && answer_.is_stop(canvas_[static_cast<std::size_t>(position)]);
  }
  // Where the answer ends at the latest.
  std::int64_t limit() const;

  bool needs_context_pass() const;
  Step context_step();
  Step denoise_step();
  // The first sub-block with masked tokens.
  void enter_sub_block();
  // Whether the next step fills the first token of the block and no other: the row before the block
  // is not computed again until the next block begins, so that what it predicts is filled while it
  // is fresh (Fast-dLLM v1, section 5.3).
  bool fills_first_alone() const;
  // The masked tokens that the next step may fill.
  std::vector<std::int64_t> candidates() const;
  Step step_over(Range rows, std::int64_t num_keys, std::span<const Mask> masks);

  void fill(std::int64_t position, const Proposal& proposal);
  void fill_surest();
  // Tells of the step that has ended.
  void report();
  // Whether the block is finished, and with it answer_end_ known.
  bool is_done();

  DiffusionSetting setting_;
  Answer answer_;
  std::function<void(const CanvasStep&)> on_step_;
  Sampler sampler_;
  Sampler greedy_;

  // The open block.
  std::vector<std::int32_t> canvas_;  // tokens from position 0 to the end of the canvas
  std::vector<bool> masked_;          // beside them
  std::vector<Sample> samples_;       // of the tokens from num_known_ on
  std::vector<Mask> open_masks_;      // of denoising steps; empty: those of the loop
  std::int64_t num_known_ = 0;        // tokens when it was opened
  std::int64_t num_committed_ = 0;
  std::int64_t answer_end_ = 0;
  Range block_;
  std::int64_t fill_end_ = 0;  // behind what may be filled: the block, or a stop token in it
  Range sub_block_;
  UnmaskState state_;
  bool first_of_block_ = true;

  // The last step.
  bool denoises_ = false;
  CanvasStep seen_;
  std::vector<std::int64_t> wanted_;      // positions that it may fill
  std::vector<std::int32_t> logit_rows_;  // and the row that predicts each
  std::vector<Proposal> proposals_;
  std::vector<FilledToken> filled_;
  std::vector<FilledToken> guesses_;

  std::int64_t num_forwards_ = 0;
  std::int64_t num_rows_ = 0;
};

}  // namespace perpend
