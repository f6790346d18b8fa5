#pragma once

#include <cstdint>
#include <vector>

#include "perpend/models/model_config.h"

namespace perpend {

// Tokens of the blocks of a ranking prompt.
struct RankLengths {
  std::int64_t instruction = 0;
  std::vector<std::int64_t> documents;
  std::int64_t query = 0;

  // `num_documents` of them and the two other blocks, all of `length` tokens.
  static RankLengths equal(std::int64_t num_documents, std::int64_t length);
  std::int64_t num_tokens() const;
  std::int64_t num_document_tokens() const;
  // (query, key) pairs of one head in one layer: those of the block mask, and of a causal one.
  std::int64_t live_pairs() const;
  std::int64_t causal_pairs() const;
};

// Work of one prompt in floating-point operations (a multiply-add is two), without the LM head:
// matrix products and the attention's own.
struct RankCost {
  double linear_flops = 0;           // of one layer
  double block_attention_flops = 0;  // of one layer, under the block mask
  double causal_attention_flops = 0;
  double score_flops = 0;  // of the scoring layer: two products and the scores
  int num_layers = 0;      // of the model
  int rank_layer = 0;      // l*

  double causal_flops() const { return num_layers * (linear_flops + causal_attention_flops); }
  double block_flops() const { return num_layers * (linear_flops + block_attention_flops); }
  double rank_flops() const {
    return rank_layer * (linear_flops + block_attention_flops) + score_flops;
  }

  // Keys and values of values with `value_bytes`: of one layer, which is all that ranking holds at
  // a time, and of all, which decoding an answer would hold.
  std::int64_t layer_kv_bytes = 0;
  std::int64_t decode_kv_bytes = 0;
  std::int64_t score_bytes = 0;  // f32 scores of the signal rows
};

RankCost rank_cost(const ModelConfig& config, const RankLengths& lengths, int rank_layer,
                   int signal_tokens = 2, std::int64_t value_bytes = 2);

}  // namespace perpend
