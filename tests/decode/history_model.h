#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "perpend/models/language_model.h"

namespace perpend {

// A network whose logits are pseudo-random numbers of all tokens up to a row, read back from the
// cache: a lost, stale or misplaced key changes what comes next. One layer with one head, whose
// keys are the token ids; only for one sequence under a causal mask.
class HistoryModel final : public LanguageModel {
 public:
  explicit HistoryModel(std::int64_t context_length) {
    config_.architecture = "history";
    config_.vocab_size = 50;
    config_.num_layers = 1;
    config_.num_q_heads = 1;
    config_.num_kv_heads = 1;
    config_.head_dim = 1;
    config_.context_length = context_length;
  }

  const ModelConfig& config() const override { return config_; }
  std::size_t num_bytes() const override { return 0; }

  torch::Tensor forward(const ForwardInput& input, Context& context) const override {
    const Workspace::Scope pass(*context.workspace);
    const KvRows& rows = input.sequences.front();
    for (std::int64_t row = 0; row < rows.count; ++row) {
      key(*rows.sequence, rows.begin + row) = static_cast<float>(input.tokens[row]);
    }
    ++num_runs;
    const auto count = static_cast<std::int64_t>(input.logit_rows.size());
    torch::Tensor logits = context.workspace->take({count, config_.vocab_size});
    for (std::int64_t i = 0; i < count; ++i) {
      std::vector<std::int32_t> history;
      for (std::int64_t position = 0; position <= rows.begin + input.logit_rows[i]; ++position) {
        history.push_back(static_cast<std::int32_t>(key(*rows.sequence, position)));
      }
      const std::vector<float> values = logits_after(history);
      std::copy(values.begin(), values.end(), logits.data_ptr<float>() + i * config_.vocab_size);
    }
    if (input.visit_logits == nullptr || count == 0) return logits;
    (*input.visit_logits)(0, logits);
    return context.workspace->take({0, config_.vocab_size});
  }

  std::vector<float> logits_after(std::span<const std::int32_t> history) const {
    std::uint64_t hash = 1;
    for (std::int32_t token : history) {
      hash = (hash + static_cast<std::uint64_t>(token) + 1) * 0x9E3779B97F4A7C15U;
      hash ^= hash >> 29;
    }
    std::vector<float> logits;
    for (std::int64_t token = 0; token < config_.vocab_size; ++token) {
      hash = hash * 0xD1342543DE82EF95U + 1;
      logits.push_back(static_cast<float>(hash >> 40) * 0x1p-22F);
    }
    return logits;
  }

  // The `count` likeliest tokens after `prompt`, one after another, without any cache.
  std::vector<std::int32_t> continuation(std::vector<std::int32_t> tokens, int count) const {
    const std::size_t first = tokens.size();
    for (int i = 0; i < count; ++i) tokens.push_back(argmax(logits_after(tokens)));
    return {tokens.begin() + static_cast<std::ptrdiff_t>(first), tokens.end()};
  }

  static std::int32_t argmax(std::span<const float> logits) {
    return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) -
                                     logits.begin());
  }

  mutable int num_runs = 0;

 private:
  static float& key(const KvSequence& sequence, std::int64_t position) {
    // One head of one value: a slot is an element.
    return sequence.store().k_pages().as<float>()[sequence.slot(0, position)];
  }

  ModelConfig config_;
};

}  // namespace perpend
