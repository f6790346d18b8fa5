#include "perpend/train/opened_model.h"

#include <utility>

#include "perpend/core/error.h"
#include "perpend/mask/layer_masks.h"
#include "perpend/models/loaded_model.h"
#include "perpend/models/random_weights.h"
#include "perpend/models/text_side.h"
#include "perpend/train/chunked_dataset.h"
#include "perpend/train/memory_dataset.h"
#include "perpend/train/sequence_folder.h"
#include "perpend/train/text_dataset.h"

namespace perpend {
namespace {

// How the trained model is to rank.
BlockRankConfig ranking_of(const RankSource& source, const ModelConfig& config) {
  BlockRankConfig rank = blockrank_config(config);
  rank.layer = source.layer;
  rank.lambda = static_cast<float>(source.lambda);
  rank.tau = static_cast<float>(source.tau);
  if (source.query_pos_offset > 0) rank.query_pos_offset = source.query_pos_offset;
  if (source.chunk_len > 0) rank.chunk_len = source.chunk_len;
  return rank;
}

}  // namespace

OpenedModel open_model(const ModelSource& source, std::uint64_t seed, Context& context) {
  OpenedModel model;
  ModelConfig config;
  if (source.path.empty()) {
    config = parse_model_config(source.config_json, "[model.shape]");
  } else {
    model.checkpoint = Checkpoint::open(resolve_model_path(source.path));
    config = read_model_config(*model.checkpoint);
  }
  config = changed(std::move(config), source.changes);
  if (source.rank) config.blockrank = ranking_of(*source.rank, config);
  const WeightForm form = source.dtype == "bf16" ? torch::kBFloat16 : torch::kFloat32;
  const auto make = [&](const ModelWeights& weights) {
    return std::make_unique<Llama>(config, weights, form, context);
  };
  model.llama = model.checkpoint ? make(WeightReader(*model.checkpoint, config))
                                 : make(RandomWeights(config, seed));
  model.layer_masks = source.layers.empty() ? default_masks(config)
                                            : parse_layer_masks(source.layers, config.num_layers);
  return model;
}

std::shared_ptr<const Dataset> open_dataset(const DataSource& source,
                                            const std::optional<Checkpoint>& checkpoint) {
  std::shared_ptr<const Dataset> data;
  if (source.path.ends_with(".jsonl")) {
    check(checkpoint.has_value(),
          concat(source.path, ": text needs the tokenizer of a model: give model.path"));
    const auto tokenizer = read_tokenizer(*checkpoint);
    const auto end = read_special_token_ids(*checkpoint, *tokenizer).eos;
    data = std::make_shared<MemoryDataset>(read_text_examples(source.path, *tokenizer, end));
  } else {
    data = std::make_shared<SequenceFolder>(source.path);
  }
  if (source.padding) data = std::make_shared<PaddedDataset>(std::move(data), *source.padding);
  if (source.chunk_tokens == 0) return data;
  return std::make_shared<ChunkedDataset>(
      std::move(data), source.chunk_tokens,
      source.padding ? ChunkedDataset::LastRow::kNothing : ChunkedDataset::LastRow::kNextChunk);
}

}  // namespace perpend
