#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "perpend/mask/mask.h"

namespace perpend {

// What the tokens of a model that fills masked tokens see.
enum class DiffusionAttention {
  kBlock,          // their block and all before it (Fast-dLLM v2, section 2.3)
  kContextCausal,  // all before them, and all of the block that is being filled (NBDiff, 2.4)
  kFull,           // everything, masked tokens to come too (LLaDA, Dream)
};

// "block", "context_causal", "full".
std::string_view name_of(DiffusionAttention attention);

struct DiffusionConfig {
  DiffusionAttention attention = DiffusionAttention::kBlock;
  std::int64_t block_size = 32;  // tokens that are filled together
  bool shifted = true;           // whether a token is predicted by the row before it, or by its own
  std::int32_t mask_token_id = 0;
  std::string mask_token = {};      // its text: where a vocabulary knows it, that is the id
  std::int64_t sub_block_size = 0;  // that decodes best; 0: not known

  friend bool operator==(const DiffusionConfig&, const DiffusionConfig&) = default;
};

// That of a published family by its model_type: Fast_dLLM_Qwen, llada, Dream, PanguEmbedded
// (NBDiff). Absent for all others.
std::optional<DiffusionConfig> published_diffusion(std::string_view architecture);

// Of tokens that are final: block_causal, causal or all.
Mask context_mask(const DiffusionConfig& config);

}  // namespace perpend
