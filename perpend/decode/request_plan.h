#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "perpend/decode/denoiser.h"
#include "perpend/decode/generate_options.h"
#include "perpend/decode/generate_result.h"
#include "perpend/models/elastic_model.h"
#include "perpend/models/loaded_model.h"

namespace perpend {

// What a prompt and its options mean for a model: masks, the network that runs, the denoiser.
class RequestPlan {
 public:
  // Borrows all three. Throws InvalidArgument when the prompt is empty, holds what is no token or
  // does not fit the context, and for options outside their ranges or not for this model;
  // Unsupported for a cache that its network does not have.
  RequestPlan(const LoadedModel& model, std::span<const std::int32_t> prompt,
              const GenerateOptions& options);

  std::vector<Mask> masks() const;  // one a layer
  // Rows of the prompt that run at once.
  std::int64_t chunk() const { return chunk_; }
  // Tokens that the sequence may have at most, masked ones too.
  std::int64_t max_length() const;
  // Whether tokens that are final keep their keys.
  bool keeps_finished() const { return !setting_ || perpend::keeps_finished(setting_->cache); }
  // Empty unless only rows that have drifted are to be computed; borrows `state`.
  std::optional<ElasticModel> elastic_model(ElasticState& state) const;
  std::unique_ptr<Denoiser> denoiser() const;
  // What denoiser and cache did, for the result.
  void count_work(const Denoiser& denoiser, const ElasticState& elastic,
                  GenerateResult& result) const;

 private:
  void check_prompt() const;
  bool is_elastic() const { return setting_ && setting_->cache == CanvasCache::kElastic; }
  std::int64_t prompt_tokens() const { return static_cast<std::int64_t>(prompt_.size()); }

  const LoadedModel& model_;
  std::span<const std::int32_t> prompt_;
  const GenerateOptions& options_;
  std::int64_t chunk_;
  std::optional<DiffusionSetting> setting_;  // of models of diffusion
};

}  // namespace perpend
