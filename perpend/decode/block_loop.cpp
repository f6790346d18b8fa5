#include "perpend/decode/block_loop.h"

#include <algorithm>

#include "perpend/core/error.h"

namespace perpend {

BlockLoop::BlockLoop(const LanguageModel& model, Context& context, KvSequence& sequence,
                     CachePolicy& policy, std::span<const Mask> layer_masks,
                     std::int64_t prefill_chunk, PromptPrefill* prompt_prefill)
    : model_(model),
      context_(context),
      runner_(model, context),
      sequence_(sequence),
      policy_(policy),
      layer_masks_(layer_masks),
      prefill_chunk_(prefill_chunk),
      prompt_prefill_(prompt_prefill) {
  check(prefill_chunk > 0, concat("prefill chunk must be positive (", prefill_chunk, ")"));
}

void BlockLoop::push(std::span<const std::int32_t> tokens) {
  const auto total = static_cast<std::int64_t>(tokens_.size() + tokens.size());
  check(total <= model_.config().context_length,
        concat("prompt: ", total, " tokens do not fit the model's context of ",
               model_.config().context_length));
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
}

bool BlockLoop::prefill(const std::function<bool(std::int64_t)>& progress) {
  if (prompt_prefill_ != nullptr && sequence_.length() == 0 &&
      !prompt_prefill_->run(tokens_, progress)) {
    return false;
  }
  while (num_pending() > prefill_chunk_) {
    num_committed_ = sequence_.length();
    const Step chunk{std::span(tokens_).subspan(static_cast<std::size_t>(num_committed_),
                                                static_cast<std::size_t>(prefill_chunk_)),
                     {}};
    const KvRows rows = place(chunk);
    runner_.run({chunk.tokens, {&rows, 1}, layer_masks_, {}});
    commit(rows.end());
    if (progress && !progress(sequence_.length())) return false;
  }
  return true;
}

std::span<const Sample> BlockLoop::next_block(Denoiser& denoiser) {
  if (num_pending() < 1) bug("BlockLoop: a block needs at least one pending token");
  denoiser.open(tokens_, num_pending());
  num_committed_ = sequence_.length();
  for (bool finished = false; !finished;) {
    const StepResult result = step(denoiser);
    finished = result.finished;
    if (finished || result.num_committed > 0) commit(num_committed_ + result.num_committed);
  }
  for (const Sample& sample : denoiser.block()) tokens_.push_back(sample.chosen.token);
  return denoiser.block();
}

StepResult BlockLoop::step(Denoiser& denoiser) {
  const Step step = denoiser.next_step();
  const KvRows rows = place(step);
  const auto masks = step.layer_masks.empty() ? layer_masks_ : step.layer_masks;
  const ForwardInput input{step.tokens, {&rows, 1}, masks, step.logit_rows};
  if (wants_summaries(denoiser)) {
    runner_.summarize(input, step.banned_token,
                      [&](std::int64_t first, std::span<const VocabularySummary> summaries) {
                        denoiser.take(first, summaries);
                      });
  } else {
    runner_.run(input, step.banned_token, [&](std::int64_t first, const torch::Tensor& logits) {
      denoiser.take(first, logits, context_);
    });
  }
  return denoiser.update();
}

KvRows BlockLoop::place(const Step& step) {
  const std::int64_t first = num_committed_ + step.offset;
  const auto count = static_cast<std::int64_t>(step.tokens.size());
  const std::int64_t length = std::max(first + count, step.num_keys);
  if (!sequence_.append(std::max<std::int64_t>(0, length - sequence_.length()))) {
    throw OutOfMemory(concat("KV cache: no page left at token ", sequence_.length(), " of ",
                             sequence_.store().config().max_tokens));
  }
  return {&sequence_, first, count, step.num_keys};
}

void BlockLoop::commit(std::int64_t num_committed) {
  num_committed_ = num_committed;
  sequence_.truncate(num_committed);
  policy_.commit(sequence_, num_committed);
}

}  // namespace perpend
