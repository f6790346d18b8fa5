#pragma once

#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "perpend/decode/recorded_step.h"
#include "perpend/decode/text_generator.h"
#include "perpend/nn/runtime.h"
#include "tests/decode/tiny_llama.h"
#include "tests/io/temporary_folder.h"

namespace perpend {

inline constexpr std::int32_t kMask = 200;

inline std::vector<std::int32_t> ids_of(const GenerateResult& result) {
  std::vector<std::int32_t> ids;
  for (const Sample& sample : result.samples) ids.push_back(sample.chosen.token);
  return ids;
}

inline UnmaskRule threshold(float value) {
  return {.kind = UnmaskRule::Kind::kThreshold, .threshold = value};
}

// One tiny random network, run as every kind of diffusion model. No token of it ends an answer
// unless a test says so.
class TinyDiffusion : public testing::Test {
 protected:
  TinyDiffusion() { write(TinyLlama::kEnd); }

  void write(std::int32_t end_token, std::int64_t num_layers = 2) {
    const TinyLlama::Weight random = TinyLlama::random(5);
    // Many rows would rather have the mask token than any other, and few the end.
    TinyLlama{
        .num_layers = num_layers,
        .end_token = end_token,
        .weight =
            [random](const std::string& tensor, std::int64_t row, std::int64_t column) mutable {
              const float value = random(tensor, row, column);
              if (tensor != "output.weight") return value;
              return row == kMask ? 8 * value : row == TinyLlama::kEnd ? 0 : value;
            }}
        .write(path_);
  }

  LoadedModel load(DiffusionAttention attention, std::int64_t block_size, bool shifted = true) {
    LoadOptions options;
    options.changes.diffusion = DiffusionConfig{attention, block_size, shifted, kMask, ""};
    return {path_, LinearMode::kF32, runtime_.context(), options};
  }
  LoadedModel load_plain() { return {path_, LinearMode::kF32, runtime_.context()}; }

  // Steps of the last call are kept.
  GenerateResult run(const LoadedModel& model, const std::vector<std::int32_t>& prompt,
                     DiffusionOptions options, std::int64_t max_tokens = 40,
                     const SamplerOptions& sampler = {}) {
    steps_.clear();
    options.on_step = [&](const CanvasStep& step) {
      steps_.emplace_back(step);
      EXPECT_TRUE(!step.denoises || !step.filled.empty());
    };
    TextGenerator generator(model, runtime_.context(), DType::kF32);
    return generator.generate(
        prompt, {.max_tokens = max_tokens, .sampler = sampler, .diffusion = std::move(options)});
  }

  std::vector<std::int32_t> prompt_of(std::size_t length) const {
    std::vector<std::int32_t> prompt(length);
    for (std::size_t i = 0; i < length; ++i)
      prompt[i] = static_cast<std::int32_t>(i * 37 % 190 + 1);
    return prompt;
  }

  TemporaryFolder folder_;
  std::string path_ = folder_.file("tiny.gguf");
  Runtime runtime_{1};
  std::vector<RecordedStep> steps_;
};

}  // namespace perpend
