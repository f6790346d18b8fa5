#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "perpend/io/gguf.h"
#include "perpend/io/gguf_metadata.h"

namespace perpend {

// How a model ranks (BlockRank, arXiv:2510.05396).
struct BlockRankConfig {
  int layer = 0;        // l*, from 0: whose attention is the score; the layers below it run
  float lambda = 0.1F;  // weight of the auxiliary loss
  float tau = 0.05F;    // its temperature
  std::int64_t query_pos_offset = 0;  // P_q: position of the first token of the query block
  std::int64_t chunk_len = 0;         // tokens of a document's block, at most
  int signal_tokens = 2;              // last tokens of the query block whose attention is the score

  friend bool operator==(const BlockRankConfig&, const BlockRankConfig&) = default;
};

// What there is of a model, for the values that such keys may have.
struct BlockRankLimits {
  int num_layers = 0;
  std::int64_t context_length = 0;
};

// What a model without those keys gets: the layer nearest to 20/32 of the depth (of two, the lower
// one), queries from the middle of the context on (16384 for Mistral 7B), documents of 512 tokens.
BlockRankConfig default_blockrank_config(const BlockRankLimits& limits);

// The object "blockrank" of a JSON text (config.json, adapter_config.json), or
// <architecture>.blockrank.* of a GGUF file. Absent without it; keys that are left out have the
// values above. Throws IoError naming `path`, key and range for a value of another type, an unknown
// key and a value that does not fit the model.
std::optional<BlockRankConfig> parse_blockrank(std::string_view json_text, const std::string& path,
                                               const BlockRankLimits& limits);
std::optional<BlockRankConfig> read_blockrank(const GgufFile& file, const std::string& path,
                                              std::string_view architecture,
                                              const BlockRankLimits& limits);

nlohmann::json blockrank_json(const BlockRankConfig& rank);
void set_blockrank(const BlockRankConfig& rank, std::string_view architecture,
                   GgufMetadata& metadata);

}  // namespace perpend
