#include "perpend/train/diffusion_recipe.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/models/text_side.h"

namespace perpend {
namespace {

using Attention = DiffusionAttention;
using NoiseUnit = NoisingOptions::NoiseUnit;

constexpr std::int64_t kMostTokens = 1 << 24;
constexpr std::int64_t kMostSteps = std::int64_t{1} << 40;
constexpr std::int64_t kMostTokenId = (std::int64_t{1} << 31) - 1;

constexpr std::array kAttentions = {Attention::kBlock, Attention::kContextCausal, Attention::kFull};

Attention read_attention(const ConfigTable& table) {
  std::vector<std::string> names;
  for (const Attention attention : kAttentions) names.emplace_back(name_of(attention));
  const std::string found = table.choice("attention", names);
  const auto place = std::find(names.begin(), names.end(), found) - names.begin();
  return kAttentions[static_cast<std::size_t>(place)];
}

BlockGrowth read_blocks(const ConfigTable& table) {
  BlockGrowth growth;
  growth.last = table.integer("block_size", 1, kMostTokens, growth.last);
  growth.first = table.integer("grow_from", 1, growth.last, growth.last);
  growth.factor = table.integer("grow_factor", 2, kMostTokens, growth.factor);
  growth.delay = table.integer("grow_after", 0, kMostSteps, 0);
  growth.interval =
      table.integer("grow_every", 1, kMostSteps,
                    growth.first == growth.last ? std::optional<std::int64_t>(1) : std::nullopt);
  return growth;
}

void refuse(const ConfigTable& table, const std::string& key, std::string_view why) {
  if (table.has(key)) table.fail(key, why);
}

// Full attention knows no blocks: their keys would have no effect.
void read_structure(const ConfigTable& table, DiffusionRecipe& recipe) {
  NoisingOptions& options = recipe.options;
  if (options.attention == Attention::kFull) {
    for (const char* key : {"block_size", "grow_from", "grow_factor", "grow_after", "grow_every",
                            "first_of_block", "pad_blocks", "noise"}) {
      refuse(table, key, "has no meaning with full attention, which knows no blocks");
    }
    options.block_size = {.first = 1, .last = 1};
    options.noise_unit = NoiseUnit::kSequence;
    recipe.pads_blocks = false;
    recipe.canvas_tokens = table.integer("canvas_tokens", 0, kMostTokens, 0);
    return;
  }
  refuse(table, "canvas_tokens", "expected attention = \"full\": blocks follow one another");
  options.block_size = read_blocks(table);
  options.first_of_block =
      table.flag("first_of_block", !options.shift || options.attention == Attention::kBlock);
  options.noise_unit = table.choice("noise", {"block", "sequence"}, "block") == "block"
                           ? NoiseUnit::kBlock
                           : NoiseUnit::kSequence;
  recipe.pads_blocks = table.flag("pad_blocks", true);
}

void read_tokens(const ConfigTable& table, DiffusionRecipe& recipe) {
  recipe.mask_token = table.text("mask_token", "");
  recipe.options.mask_token_id =
      static_cast<std::int32_t>(table.integer("mask_token_id", 0, kMostTokenId, 0));
  if (recipe.mask_token.empty() != table.has("mask_token_id")) {
    table.fail("mask_token", "expected either mask_token or mask_token_id");
  }
  if (!table.has("canvas_token_id")) return;
  recipe.canvas_token_id =
      static_cast<std::int32_t>(table.integer("canvas_token_id", 0, kMostTokenId));
  if (recipe.canvas_tokens == 0) table.fail("canvas_token_id", "expected canvas_tokens beside it");
}

void read_weighting(const ConfigTable& table, NoisingOptions& options) {
  const bool by_default = options.attention == Attention::kFull && options.views == 1;
  options.inverse_weight =
      table.choice("weighting", {"none", "1/p"}, by_default ? "1/p" : "none") == "1/p";
  if (options.inverse_weight && options.views == 2) {
    table.fail("weighting", "two complementary views count each token once without 1/p");
  }
  if (!options.inverse_weight)
    refuse(table, "max_weight", "expected weighting = \"1/p\" beside it");
  options.max_weight = table.number("max_weight", 1.0, 1e6, options.max_weight);
}

std::int32_t special_token_id(const std::string& text, const Tokenizer& tokenizer) {
  const std::vector<std::int32_t> ids =
      tokenizer.encode(text, {.add_special_tokens = false, .parse_special = true});
  check(ids.size() == 1 && tokenizer.is_special(ids.front()),
        concat("diffusion: mask_token '", text, "' is no special token of the model's tokenizer"));
  return ids.front();
}

}  // namespace

std::optional<DiffusionRecipe> read_diffusion_recipe(const ConfigTable& root) {
  if (!root.has("diffusion")) return std::nullopt;
  const ConfigTable table = root.table("diffusion");
  DiffusionRecipe recipe;
  NoisingOptions& options = recipe.options;
  options.attention = read_attention(table);
  options.shift = table.flag("shift", true);
  const std::int64_t views = options.attention == Attention::kBlock ? 2 : 1;
  options.views = static_cast<int>(table.integer("views", 1, 2, views));
  read_structure(table, recipe);
  read_weighting(table, options);
  read_tokens(table, recipe);
  recipe.has_mean_mask_row = table.choice("mask_row", {"mean", "keep"}, "mean") == "mean";
  table.check_all_read();
  return recipe;
}

Padding DiffusionRecipe::padding() const {
  if (canvas_tokens == 0) {
    return {.multiple = pads_blocks ? options.block_size.last : 1, .token = options.mask_token_id};
  }
  check(canvas_token_id.has_value(),
        "diffusion: the model's tokenizer has no end of text: give canvas_token_id");
  return {.length = canvas_tokens, .token = *canvas_token_id, .weight = 1.0F};
}

std::string DiffusionRecipe::model_json() const {
  nlohmann::json object{{"attention", name_of(options.attention)},
                        {"mask_token_id", options.mask_token_id},
                        {"shift", options.shift}};
  if (options.attention != Attention::kFull) object["block_size"] = options.block_size.last;
  return object.dump();
}

void resolve_tokens(DiffusionRecipe& recipe, const Checkpoint* source) {
  const bool wants_end = recipe.canvas_tokens > 0 && !recipe.canvas_token_id;
  if (recipe.mask_token.empty() && !wants_end) return;
  check(source != nullptr,
        "diffusion: tokens have names in the tokenizer of model.path alone: give ids");
  const auto tokenizer = read_tokenizer(*source);
  if (!recipe.mask_token.empty()) {
    recipe.options.mask_token_id = special_token_id(recipe.mask_token, *tokenizer);
  }
  if (wants_end) recipe.canvas_token_id = read_special_token_ids(*source, *tokenizer).eos;
}

}  // namespace perpend
