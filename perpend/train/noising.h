#pragma once

#include <cstdint>

#include "perpend/mask/mask.h"
#include "perpend/models/diffusion.h"

namespace perpend {

// Sizes of blocks that grow while a model is trained (NBDiff, arXiv:2512.06776, section 2.3):
// min(last, first * factor^floor(max(0, step - delay) / interval)).
struct BlockGrowth {
  std::int64_t first = 32;
  std::int64_t last = 32;
  std::int64_t factor = 2;
  std::int64_t interval = 1;  // steps of one size
  std::int64_t delay = 0;     // steps before the first interval

  // At a step, from 0.
  std::int64_t at(std::int64_t step) const;
};

// How text is noised to train a diffusion language model, and what the copies of it see.
struct NoisingOptions {
  // What shares one noise level.
  enum class NoiseUnit { kBlock, kSequence };

  // With kBlock clean blocks see themselves and those before, with kContextCausal clean tokens are
  // causal, with kFull there is no clean copy.
  DiffusionAttention attention = DiffusionAttention::kBlock;
  BlockGrowth block_size;
  std::int32_t mask_token_id = 0;
  // Noised copies of a text: 2 are complementary, so that each token is predicted once.
  int views = 1;
  NoiseUnit noise_unit = NoiseUnit::kBlock;
  // A token is predicted by the row before it, as by the autoregressive model that training began
  // with, and not by its own.
  bool shift = true;
  // The first token of a block is predicted by the noised block before it too.
  bool first_of_block = true;
  // Predicting a masked token counts 1 / (probability of being masked), at most max_weight.
  bool inverse_weight = false;
  double max_weight = 1e3;
  // Clean rows are to predict the next token: for a next-token loss beside.
  bool clean_targets = false;
  std::uint64_t seed = 0;
};

// What the rows of [views noised copies; clean copy] of a text see, by section 2.3 of Fast-dLLM v2
// (arXiv:2509.26328) or 2.1 of NBDiff: noised rows their own block in their copy and the clean
// blocks before it, clean rows no noise. kFull has no clean copy. `length` tokens a copy.
Mask diffusion_mask(DiffusionAttention attention, std::int64_t length, std::int64_t block_size,
                    int views);

}  // namespace perpend
