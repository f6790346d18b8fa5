#pragma once

#include <cstdint>

#include "perpend/io/checkpoint.h"
#include "perpend/models/model_config.h"

namespace perpend {

// How a model ranks (BlockRank, arXiv:2510.05396): the `blockrank` object of config.json.
struct BlockRankConfig {
  int layer = 0;        // l*, from 0: whose attention is the score; the layers below it run
  float lambda = 0.1F;  // weight of the auxiliary loss
  float tau = 0.05F;    // its temperature
  std::int64_t query_pos_offset = 0;  // P_q: position of the first token of the query block
  std::int64_t chunk_len = 0;         // tokens of a document's block, at most
  int signal_tokens = 2;              // last tokens of the query block whose attention is the score

  friend bool operator==(const BlockRankConfig&, const BlockRankConfig&) = default;
};

// What a model without those keys gets: the layer nearest to 20/32 of the depth (of two, the lower
// one), queries from the middle of the context on (16384 for Mistral 7B), documents of 512 tokens.
BlockRankConfig default_blockrank_config(const ModelConfig& config);

// The defaults with what config.json says; GGUF files say nothing. Throws IoError naming file, key
// and range for a value of another type, an unknown key and a value that does not fit the model.
BlockRankConfig read_blockrank_config(const Checkpoint& checkpoint, const ModelConfig& config);

}  // namespace perpend
