#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "perpend/io/checkpoint.h"
#include "perpend/train/config_table.h"
#include "perpend/train/noising.h"
#include "perpend/train/padded_dataset.h"

namespace perpend {

// The table [diffusion] of a configuration; docs/training.md describes its keys.
struct DiffusionRecipe {
  NoisingOptions options;
  std::string mask_token;   // as the tokenizer writes it; empty: options have the id
  bool pads_blocks = true;  // texts end where a block does
  std::int64_t canvas_tokens =
      0;  // texts are filled up to so many; 0: they stay as long as they are
  std::optional<std::int32_t> canvas_token_id;  // none: the tokenizer's end of text
  bool has_mean_mask_row = true;  // the mask token's embedding begins as the mean of all

  // What `data` is padded with. Throws InvalidArgument unless tokens are resolved.
  Padding padding() const;
  // The object "diffusion" of the trained model's config.json, as text: attention, mask_token_id,
  // shift and, with blocks, block_size.
  std::string model_json() const;
};

// None when there is no such table. Throws IoError as ConfigTable does.
std::optional<DiffusionRecipe> read_diffusion_recipe(const ConfigTable& root);

// Finds the ids of tokens that are given by name, or not at all, by the tokenizer of the model that
// training begins with; null when it begins with none. Throws InvalidArgument for a name that is no
// special token there.
void resolve_tokens(DiffusionRecipe& recipe, const Checkpoint* source);

}  // namespace perpend
