#include "perpend/decode/sequence_steps.h"

#include <algorithm>

#include "perpend/core/error.h"

namespace perpend {

SequenceSteps::SequenceSteps(KvSequence& sequence, CachePolicy& policy,
                             std::span<const Mask> layer_masks, std::int64_t context_length,
                             std::int64_t prefill_chunk)
    : sequence_(sequence),
      policy_(policy),
      layer_masks_(layer_masks),
      context_length_(context_length),
      prefill_chunk_(prefill_chunk) {
  check(prefill_chunk > 0, concat("prefill chunk must be positive (", prefill_chunk, ")"));
}

void SequenceSteps::push(std::span<const std::int32_t> tokens) {
  const auto total = static_cast<std::int64_t>(tokens_.size() + tokens.size());
  check(total <= context_length_,
        concat("prompt: ", total, " tokens do not fit the model's context of ", context_length_));
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
}

Step SequenceSteps::next_chunk() {
  num_committed_ = sequence_.length();
  return {std::span(tokens_).subspan(static_cast<std::size_t>(num_committed_),
                                     static_cast<std::size_t>(prefill_chunk_)),
          {}};
}

void SequenceSteps::finish_chunk() { commit(num_committed_ + prefill_chunk_); }

void SequenceSteps::open(Denoiser& denoiser) {
  if (num_pending() < 1) bug("SequenceSteps: a block needs at least one pending token");
  denoiser.open(tokens_, num_pending());
  num_committed_ = sequence_.length();
}

bool SequenceSteps::finish_step(Denoiser& denoiser) {
  const StepResult result = denoiser.update();
  if (result.finished || result.num_committed > 0) commit(num_committed_ + result.num_committed);
  if (!result.finished) return false;
  for (const Sample& sample : denoiser.block()) tokens_.push_back(sample.chosen.token);
  return true;
}

std::optional<KvRows> SequenceSteps::place(const Step& step) {
  const std::int64_t first = num_committed_ + step.offset;
  const auto count = static_cast<std::int64_t>(step.tokens.size());
  const std::int64_t length = std::max(first + count, step.num_keys);
  if (!sequence_.append(std::max<std::int64_t>(0, length - sequence_.length()))) {
    return std::nullopt;
  }
  return KvRows{&sequence_, first, count, step.num_keys};
}

void SequenceSteps::commit(std::int64_t num_committed) {
  num_committed_ = num_committed;
  sequence_.truncate(num_committed);
  policy_.commit(sequence_, num_committed);
}

}  // namespace perpend
