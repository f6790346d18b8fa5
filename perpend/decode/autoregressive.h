#pragma once

#include <vector>

#include "perpend/decode/denoiser.h"

namespace perpend {

// The next token from the last: a block of one.
class Autoregressive final : public Denoiser {
 public:
  Autoregressive(const SamplerOptions& options, int num_top_logprobs)
      : sampler_(options), num_top_(num_top_logprobs) {}

  void open(std::span<const std::int32_t> tokens, std::int64_t num_pending) override;
  Step next_step() override;
  void take(std::int64_t first, const torch::Tensor& logits, const Context& context) override;
  bool needs_only_summaries() const override { return sampler_.takes_likeliest() && num_top_ == 0; }
  void take(std::int64_t first, std::span<const VocabularySummary> rows) override;
  StepResult update() override {
    ++num_forwards_;
    return {.num_committed = num_pending_, .finished = true};
  }
  std::span<const Sample> block() const override { return {&sample_, 1}; }
  std::int64_t num_forwards() const override { return num_forwards_; }
  std::int64_t num_rows() const override { return num_rows_; }

 private:
  Sampler sampler_;
  int num_top_;
  std::span<const std::int32_t> tokens_;
  std::int64_t num_pending_ = 0;
  std::int64_t num_rows_ = 0;
  std::int32_t last_row_ = 0;
  Sample sample_;
  std::int64_t num_forwards_ = 0;
};

}  // namespace perpend
