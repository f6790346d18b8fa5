#include "perpend/decode/completion.h"

#include <algorithm>

namespace perpend {

Completion::Completion(const LoadedModel& model, const GenerateOptions& options,
                       const GenerateCallbacks& callbacks, std::int64_t room)
    : model_(model),
      callbacks_(callbacks),
      max_tokens_(std::min(options.max_tokens, room)),
      detokenizer_(model.tokenizer()),
      stop_(options.stop) {}

bool Completion::push(std::span<const Sample> block) {
  if (result.samples.empty()) num_first_ = block.size();
  return std::all_of(block.begin(), block.end(),
                     [&](const Sample& sample) { return push(sample); });
}

bool Completion::push(const Sample& sample) {
  if (result.samples.empty()) {
    first_token_ = Clock::now();
    result.time_to_first_token_ms = seconds_since(start_) * 1e3;
  }
  result.samples.push_back(sample);
  if (model_.is_stop_token(sample.chosen.token)) return end(FinishReason::kStop);
  const bool wanted = emit(stop_.push(detokenizer_.push(sample.chosen.token)));
  if (!wanted) return end(FinishReason::kCancelled);
  if (stop_.matched()) return end(FinishReason::kStop);
  const auto count = static_cast<std::int64_t>(result.samples.size());
  return count < max_tokens_ || end(FinishReason::kLength);
}

bool Completion::emit(const std::string& text) {
  result.text += text;
  return text.empty() || !callbacks_.on_text || callbacks_.on_text(text);
}

bool Completion::end(FinishReason reason) {
  result.finish_reason = reason;
  if (!result.samples.empty()) decode_seconds_ = seconds_since(first_token_);
  return false;
}

void Completion::finish() {
  if (result.finish_reason != FinishReason::kCancelled) {
    emit(stop_.push(detokenizer_.finish()));
    emit(stop_.finish());
  }
  if (result.samples.empty()) return;
  const double first_seconds = result.time_to_first_token_ms * 1e-3;
  result.prefill_tokens_per_s =
      static_cast<double>(result.prompt_tokens - result.cached_tokens) / first_seconds;
  const std::size_t count = result.samples.size();
  if (count > num_first_) {
    result.decode_tokens_per_s = static_cast<double>(count - num_first_) / decode_seconds_;
  } else if (num_first_ > 1) {
    result.decode_tokens_per_s = static_cast<double>(count) / (first_seconds + decode_seconds_);
  }
}

}  // namespace perpend
