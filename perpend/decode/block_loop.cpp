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
    const std::int64_t first = sequence_.length();
    const Step chunk{std::span(tokens_).subspan(static_cast<std::size_t>(first),
                                                static_cast<std::size_t>(prefill_chunk_)),
                     {}};
    const KvRows rows = append(chunk);
    runner_.run({chunk.tokens, {&rows, 1}, layer_masks_, {}});
    commit(first, prefill_chunk_);
    if (progress && !progress(sequence_.length())) return false;
  }
  return true;
}

std::span<const Sample> BlockLoop::next_block(Denoiser& denoiser) {
  if (num_pending() < 1) bug("BlockLoop: a block needs at least one pending token");
  denoiser.open(tokens_, num_pending());
  for (bool finished = false; !finished;) {
    const std::int64_t first = sequence_.length();
    const StepResult result = step(denoiser);
    commit(first, result.num_committed);
    finished = result.finished;
  }
  for (const Sample& sample : denoiser.block()) tokens_.push_back(sample.chosen.token);
  return denoiser.block();
}

StepResult BlockLoop::step(Denoiser& denoiser) {
  const Step step = denoiser.next_step();
  const KvRows rows = append(step);
  const ForwardInput input{step.tokens, {&rows, 1}, layer_masks_, step.logit_rows};
  if (context_.device.type != DeviceType::kCpu && denoiser.needs_only_summaries()) {
    return denoiser.update(runner_.summarize(input));
  }
  return denoiser.update(runner_.run(input), context_);
}

KvRows BlockLoop::append(const Step& step) {
  const std::int64_t first = sequence_.length();
  const auto count = static_cast<std::int64_t>(step.tokens.size());
  if (!sequence_.append(count)) {
    throw OutOfMemory(concat("KV cache: no page left at token ", first, " of ",
                             sequence_.store().config().max_tokens));
  }
  return {&sequence_, first, count};
}

void BlockLoop::commit(std::int64_t first, std::int64_t count) {
  sequence_.truncate(first + count);
  policy_.commit(sequence_, first + count);
}

}  // namespace perpend
