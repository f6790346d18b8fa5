#include "perpend/decode/autoregressive.h"

namespace perpend {

void Autoregressive::open(std::span<const std::int32_t> tokens, std::int64_t num_pending) {
  tokens_ = tokens;
  num_pending_ = num_pending;
  num_rows_ += num_pending;
  last_row_ = static_cast<std::int32_t>(num_pending - 1);
}

Step Autoregressive::next_step() {
  return {tokens_.last(static_cast<std::size_t>(num_pending_)), {&last_row_, 1}};
}

void Autoregressive::take(std::int64_t /*first*/, const torch::Tensor& logits,
                          const Context& context) {
  const std::span<float> row(logits.data_ptr<float>(), static_cast<std::size_t>(logits.size(1)));
  sample_ = sampler_.sample(row, tokens_, num_top_, context);
}

void Autoregressive::take(std::int64_t /*first*/, std::span<const VocabularySummary> rows) {
  sample_ = Sampler::sample(rows.front());
}

}  // namespace perpend
