#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "perpend/io/checkpoint.h"
#include "perpend/mask/mask.h"
#include "perpend/models/llama.h"
#include "perpend/train/dataset.h"
#include "perpend/train/padded_dataset.h"

namespace perpend {

// What a ranking loss says of the model, and what its data was made for; 0: as the model says.
struct RankSource {
  int layer = 0;
  double lambda = 0;
  double tau = 0;
  std::int64_t query_pos_offset = 0;
  std::int64_t chunk_len = 0;
};

// Where the weights come from.
struct ModelSource {
  std::string path;         // a .gguf file or a Hugging Face folder; empty: random weights
  std::string config_json;  // of random weights: the text of their config.json
  std::string dtype = "f32";
  std::string layers;  // masks of layers, see parse_layer_masks(); empty: the model's own
  ModelChanges changes;
  std::optional<RankSource> rank = {};  // how the model will rank; absent: as it says itself
};

struct DataSource {
  std::string path;               // a folder of sequences (sequence_folder.h) or a .jsonl file
  std::int64_t chunk_tokens = 0;  // sequences are joined and cut to this length; 0: as they are
  std::optional<Padding> padding = {};  // of texts that are to be noised
};

// A model whose weights are tensors, with the checkpoint that they are of.
struct OpenedModel {
  std::optional<Checkpoint> checkpoint;  // none for random weights
  std::unique_ptr<Llama> llama;
  std::vector<Mask> layer_masks;  // [num_layers]
};

// Random weights are drawn from `seed`. Throws IoError, InvalidArgument and Unsupported, naming
// file and field.
OpenedModel open_model(const ModelSource& source, std::uint64_t seed, Context& context);

// Text is read with the tokenizer of `checkpoint`. Throws InvalidArgument for text without one, and
// IoError.
std::shared_ptr<const Dataset> open_dataset(const DataSource& source,
                                            const std::optional<Checkpoint>& checkpoint);

}  // namespace perpend
