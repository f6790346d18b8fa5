#include "perpend/nn/rotary.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <torch/types.h>

#include "perpend/core/error.h"

namespace perpend {
namespace {

constexpr std::int64_t kStep = 256;  // positions made ready at once

float llama3_frequency(float frequency, const RotaryConfig::Llama3& rule) {
  const float wavelength = 2 * std::numbers::pi_v<float> / frequency;
  if (wavelength < rule.original_context / rule.high_freq_factor) return frequency;
  if (wavelength > rule.original_context / rule.low_freq_factor) return frequency / rule.factor;
  const float smooth = (rule.original_context / wavelength - rule.low_freq_factor) /
                       (rule.high_freq_factor - rule.low_freq_factor);
  return (1 - smooth) * frequency / rule.factor + smooth * frequency;
}

}  // namespace

std::vector<float> rotary_frequencies(const RotaryConfig& config) {
  std::vector<float> result;
  for (int i = 0; i < config.rotary_dim / 2; ++i) {
    float frequency = 1.0F / std::pow(config.theta, static_cast<float>(2 * i) /
                                                        static_cast<float>(config.rotary_dim));
    if (config.llama3) frequency = llama3_frequency(frequency, *config.llama3);
    if (!config.frequency_divisors.empty()) {
      frequency /= config.frequency_divisors[static_cast<std::size_t>(i)];
    }
    result.push_back(frequency / config.linear_factor);
  }
  return result;
}

RotaryTables::RotaryTables(const RotaryConfig& config, std::int64_t max_position,
                           torch::Device device) {
  check(config.rotary_dim > 0 && config.rotary_dim % 2 == 0,
        concat("rotary: rotary_dim must be even and positive (", config.rotary_dim, ")"));
  check(config.theta > 0, concat("rotary: theta must be positive (", config.theta, ")"));
  const std::int64_t half = config.rotary_dim / 2;
  if (!config.frequency_divisors.empty()) {
    check_eq(static_cast<std::int64_t>(config.frequency_divisors.size()), half,
             "rotary: frequency divisors and rotary_dim / 2 differ");
  }
  frequencies_ = rotary_frequencies(config);
  cos_ = torch::empty({max_position, half}, torch::dtype(torch::kFloat32).device(device));
  sin_ = torch::empty_like(cos_);
}

void RotaryTables::ensure(std::int64_t num_positions) {
  if (num_positions <= ready_.load(std::memory_order_acquire)) return;
  const std::scoped_lock lock(mutex_);
  const std::int64_t max_position = cos_.size(0);
  check(num_positions <= max_position,
        concat("rotary: position ", num_positions - 1, " is beyond the context of ", max_position));
  const std::int64_t first = ready_.load(std::memory_order_relaxed);
  const std::int64_t last = std::min(max_position, std::max(num_positions, first + kStep));
  const auto half = static_cast<std::int64_t>(frequencies_.size());
  const torch::Tensor both = torch::empty({2, last - first, half});
  auto* cos = both[0].data_ptr<float>();
  auto* sin = both[1].data_ptr<float>();
  for (std::int64_t position = first; position < last; ++position) {
    for (std::int64_t i = 0; i < half; ++i) {
      // The angle is rounded to f32 first, as the checkpoints' own code computes it.
      const float angle = static_cast<float>(position) * frequencies_[static_cast<std::size_t>(i)];
      *cos++ = static_cast<float>(std::cos(static_cast<double>(angle)));
      *sin++ = static_cast<float>(std::sin(static_cast<double>(angle)));
    }
  }
  cos_.narrow(0, first, last - first).copy_(both[0]);
  sin_.narrow(0, first, last - first).copy_(both[1]);
  ready_.store(last, std::memory_order_release);
}

}  // namespace perpend
