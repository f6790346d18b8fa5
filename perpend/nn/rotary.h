#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <vector>

#include <torch/types.h>

#include "perpend/kernels/rotary.h"

namespace perpend {

// Rotary position embedding: how the frequencies are made (arXiv:2104.09864), and the two published
// ways to stretch them.
struct RotaryConfig {
  int rotary_dim = 0;  // values of a head that turn; even
  float theta = 10000.0F;
  RotaryLayout layout = RotaryLayout::kHalfSplit;

  // Positions divided by `factor` ("linear" scaling, arXiv:2306.15595).
  float linear_factor = 1.0F;

  // Llama 3.1's rule: wavelengths above original_context / low_freq_factor are stretched by
  // `factor`, those below original_context / high_freq_factor are kept, the ones between are
  // blended.
  struct Llama3 {
    float factor = 8.0F;
    float low_freq_factor = 1.0F;
    float high_freq_factor = 4.0F;
    float original_context = 8192.0F;
  };
  std::optional<Llama3> llama3;

  // Divisors a frequency, [rotary_dim / 2], as some files store them; empty for none.
  std::vector<float> frequency_divisors;
};

// Radians a position, [rotary_dim / 2].
std::vector<float> rotary_frequencies(const RotaryConfig& config);

// cos and sin of position * frequency, filled as far as they were asked for: a long context costs
// nothing until it is used. Safe to use from several threads.
class RotaryTables {
 public:
  // Throws InvalidArgument for an odd rotary_dim or a theta that is not positive.
  // The tables lie on `device`.
  RotaryTables(const RotaryConfig& config, std::int64_t max_position,
               torch::Device device = torch::kCPU);

  // Makes positions below `num_positions` ready. Throws InvalidArgument beyond max_position.
  void ensure(std::int64_t num_positions);

  // [max_position, rotary_dim / 2] f32.
  const torch::Tensor& cos() const { return cos_; }
  const torch::Tensor& sin() const { return sin_; }

 private:
  std::vector<float> frequencies_;
  torch::Tensor cos_;
  torch::Tensor sin_;
  std::mutex mutex_;
  std::atomic<std::int64_t> ready_ = 0;
};

}  // namespace perpend
