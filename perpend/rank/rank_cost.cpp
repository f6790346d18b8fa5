#include "perpend/rank/rank_cost.h"

#include <numeric>

namespace perpend {
namespace {

std::int64_t triangle(std::int64_t count) { return count * (count + 1) / 2; }

}  // namespace

RankLengths RankLengths::equal(std::int64_t num_documents, std::int64_t length) {
  return {length, std::vector<std::int64_t>(static_cast<std::size_t>(num_documents), length),
          length};
}

std::int64_t RankLengths::num_document_tokens() const {
  return std::accumulate(documents.begin(), documents.end(), std::int64_t{0});
}

std::int64_t RankLengths::num_tokens() const { return instruction + num_document_tokens() + query; }

std::int64_t RankLengths::live_pairs() const {
  std::int64_t pairs = triangle(instruction) + triangle(query);
  for (const std::int64_t length : documents) pairs += triangle(length) + length * instruction;
  return pairs + query * (instruction + num_document_tokens());
}

std::int64_t RankLengths::causal_pairs() const { return triangle(num_tokens()); }

RankCost rank_cost(const ModelConfig& config, const RankLengths& lengths, int rank_layer,
                   int signal_tokens, std::int64_t value_bytes) {
  const double dim = config.model_dim;
  const double q_dim = static_cast<double>(config.num_q_heads) * config.head_dim;
  const double kv_dim = static_cast<double>(config.num_kv_heads) * config.head_dim;
  const double weights = dim * (2 * q_dim + 2 * kv_dim + 3.0 * config.ffn_dim);
  const auto tokens = static_cast<double>(lengths.num_tokens());
  const auto keys = static_cast<double>(lengths.num_document_tokens());
  const std::int64_t kv_row = 2 * value_bytes * config.num_kv_heads * std::int64_t{config.head_dim};
  RankCost cost;
  cost.linear_flops = 2 * weights * tokens;
  cost.block_attention_flops = 4 * q_dim * static_cast<double>(lengths.live_pairs());
  cost.causal_attention_flops = 4 * q_dim * static_cast<double>(lengths.causal_pairs());
  cost.score_flops =
      2 * dim * (kv_dim * keys + q_dim * signal_tokens) + 2 * q_dim * signal_tokens * keys;
  cost.num_layers = config.num_layers;
  cost.rank_layer = rank_layer;
  cost.layer_kv_bytes = kv_row * lengths.num_tokens();
  cost.decode_kv_bytes = cost.layer_kv_bytes * config.num_layers;
  cost.score_bytes = std::int64_t{signal_tokens} * config.num_q_heads *
                     lengths.num_document_tokens() * std::int64_t{sizeof(float)};
  return cost;
}

}  // namespace perpend
