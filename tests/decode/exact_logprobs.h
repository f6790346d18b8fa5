#pragma once

#include <cmath>
#include <span>
#include <stdexcept>
#include <vector>

#include "perpend/models/kv_store_config.h"
#include "perpend/models/loaded_model.h"

namespace perpend {

// Natural log-probabilities [vocab_size] after `tokens` under causal masks: one pass over all of
// them with a cache of its own.
inline std::vector<double> exact_logprobs(const LoadedModel& model,
                                          std::span<const std::int32_t> tokens, Context& context) {
  const ModelConfig& config = model.config();
  KvStore store(kv_store_config(config, DType::kF32, config.context_length));
  KvSequence sequence(store);
  const auto count = static_cast<std::int64_t>(tokens.size());
  if (!sequence.append(count)) throw std::runtime_error("the cache is too small");
  const KvRows rows{&sequence, 0, count};
  const std::vector<Mask> masks(static_cast<std::size_t>(config.num_layers), Mask::causal());
  const auto last = static_cast<std::int32_t>(count - 1);
  const torch::Tensor logits =
      model.network().forward({tokens, {&rows, 1}, masks, {&last, 1}}, context);
  const std::span row(logits.data_ptr<float>(), static_cast<std::size_t>(logits.size(1)));
  double sum = 0;
  for (double logit : row) sum += std::exp(logit);
  std::vector<double> result;
  for (double logit : row) result.push_back(logit - std::log(sum));
  return result;
}

}  // namespace perpend
