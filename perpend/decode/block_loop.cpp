#include "perpend/decode/block_loop.h"

#include "perpend/core/error.h"

namespace perpend {

BlockLoop::BlockLoop(const LanguageModel& model, Context& context, KvSequence& sequence,
                     CachePolicy& policy, std::span<const Mask> layer_masks,
                     std::int64_t prefill_chunk, PromptPrefill* prompt_prefill)
    : context_(context),
      runner_(model, context),
      steps_(sequence, policy, layer_masks, model.config().context_length, prefill_chunk),
      prompt_prefill_(prompt_prefill) {}

bool BlockLoop::prefill(const std::function<bool(std::int64_t)>& progress) {
  if (prompt_prefill_ != nullptr && steps_.sequence().length() == 0 &&
      !prompt_prefill_->run(tokens(), progress)) {
    return false;
  }
  while (steps_.has_chunk()) {
    const Step chunk = steps_.next_chunk();
    const KvRows rows = place(chunk);
    runner_.run({chunk.tokens, {&rows, 1}, steps_.masks_of(chunk), {}});
    steps_.finish_chunk();
    if (progress && !progress(steps_.sequence().length())) return false;
  }
  return true;
}

std::span<const Sample> BlockLoop::next_block(Denoiser& denoiser) {
  steps_.open(denoiser);
  do {
    run(steps_.next_step(denoiser), denoiser);
  } while (!steps_.finish_step(denoiser));
  return denoiser.block();
}

void BlockLoop::run(const Step& step, Denoiser& denoiser) {
  const KvRows rows = place(step);
  const ForwardInput input{step.tokens, {&rows, 1}, steps_.masks_of(step), step.logit_rows};
  if (takes_summaries(denoiser, context_)) {
    runner_.summarize(input, step.banned_token,
                      [&](std::int64_t first, std::span<const VocabularySummary> summaries) {
                        denoiser.take(first, summaries);
                      });
  } else {
    runner_.run(input, step.banned_token, [&](std::int64_t first, const torch::Tensor& logits) {
      denoiser.take(first, logits, context_);
    });
  }
}

KvRows BlockLoop::place(const Step& step) {
  const std::optional<KvRows> rows = steps_.place(step);
  if (!rows) {
    const KvSequence& sequence = steps_.sequence();
    throw OutOfMemory(concat("KV cache: no page left at token ", sequence.length(), " of ",
                             sequence.store().config().max_tokens));
  }
  return *rows;
}

}  // namespace perpend
