#include "perpend/models/diffusion.h"

#include <algorithm>
#include <array>
#include <utility>

#include "perpend/core/error.h"
#include "perpend/mask/mask_parser.h"

namespace perpend {

std::string_view name_of(DiffusionAttention attention) {
  switch (attention) {
    case DiffusionAttention::kBlock:
      return "block";
    case DiffusionAttention::kContextCausal:
      return "context_causal";
    case DiffusionAttention::kFull:
      return "full";
  }
  bug("name_of: unknown attention of a diffusion model");
}

std::optional<DiffusionConfig> published_diffusion(std::string_view architecture) {
  using enum DiffusionAttention;
  // Two of the ids stand in the code of their authors and in no config.json.
  const std::array known = {
      std::pair<std::string_view, DiffusionConfig>{"Fast_dLLM_Qwen",
                                                   {kBlock, 32, true, 151665, "|<MASK>|"}},
      std::pair<std::string_view, DiffusionConfig>{"llada", {kFull, 32, false, 126336, ""}},
      std::pair<std::string_view, DiffusionConfig>{"Dream", {kFull, 32, true, 151666, ""}},
      std::pair<std::string_view, DiffusionConfig>{"PanguEmbedded",
                                                   {kContextCausal, 32, true, 45830, "[unused0]"}},
  };
  for (const auto& [name, config] : known) {
    if (name == architecture) return config;
  }
  return std::nullopt;
}

Mask context_mask(const DiffusionConfig& config) {
  switch (config.attention) {
    case DiffusionAttention::kBlock:
      return parse_mask(concat("block_causal(", config.block_size, ")"));
    case DiffusionAttention::kContextCausal:
      return Mask::causal();
    case DiffusionAttention::kFull:
      return Mask::all();
  }
  bug("context_mask: unknown attention of a diffusion model");
}

}  // namespace perpend
